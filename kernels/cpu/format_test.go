package cpu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"loco/kernels"
)

var formatNames = [kernels.FormatCount]string{"fp32", "bf16", "int8", "int4"}

// eachFormat runs f for every format on every assembly path.
func eachFormat(t *testing.T, f func(t *testing.T, p *path, format kernels.Format)) {
	for _, p := range assembly(t) {
		for format := range kernels.FormatCount {
			t.Run(fmt.Sprintf("%s/%s", p.name, formatNames[format]), func(t *testing.T) { f(t, p, format) })
		}
	}
}

// guardedBytes returns n bytes that begin shift bytes after a multiple of 64 or so,
// between guards; sound says whether the guards are what they were.
func guardedBytes(n, shift int) (b []byte, sound func() bool) {
	const guard = 64
	all := make([]byte, n+2*guard+shift)
	for i := range all {
		all[i] = 0xa5
	}
	lo := guard + shift
	return all[lo : lo+n : lo+n], func() bool {
		for i, x := range all {
			if (i < lo || i >= lo+n) && x != 0xa5 {
				return false
			}
		}
		return true
	}
}

// codecValues returns finite values of the given kind, in blocks.
func codecValues(r *rand.Rand, n, kind int) []float32 {
	x := make([]float32, n)
	for lo := 0; lo < n; lo += kernels.CodecBlock {
		block := x[lo:min(lo+kernels.CodecBlock, n)]
		power := float32(math.Ldexp(1, r.IntN(250)-125))
		for i := range block {
			switch kind {
			case 0:
				block[i] = float32(r.NormFloat64())
			case 1: // any magnitude
				block[i] = float32(max(-1, min(1, r.NormFloat64()/4))) * power
			case 2: // any finite bits
				if block[i] = math.Float32frombits(r.Uint32()); block[i]-block[i] != 0 {
					block[i] = float32(math.Copysign(0, -1))
				}
			case 3: // zeros of both signs, with a rare subnormal
				bits := r.Uint32() & (1 << 31)
				if r.IntN(500) == 0 {
					bits |= r.Uint32() & 0x007fffff
				}
				block[i] = math.Float32frombits(bits)
			case 4: // around the smallest scales
				block[i] = math.Float32frombits(r.Uint32() & 0x84ffffff)
			case 5: // the largest numbers, where bf16 would round to infinity and a kernel divides
				block[i] = math.Float32frombits(r.Uint32()&0x80ffffff | 0x7e000000)
				if r.IntN(3) == 0 {
					block[i] = math.Float32frombits(r.Uint32()&0x8000ffff | 0x7f7f0000)
				}
			}
		}
	}
	return x
}

const codecKinds = 6

// checkFormat holds one vector against plain Go: bytes, decoded values, sums, guards.
// shift moves all memory by as many values and bytes.
func checkFormat(t *testing.T, p *path, f kernels.Format, x []float32, shift int) {
	t.Helper()
	n, length := len(x), f.EncodedLen(len(x))
	src := append(make([]float32, shift), x...)[shift:]
	got, gotSound := guardedBytes(length, shift)
	want := make([]byte, length)
	a, b := p.encode(f, got, src), plainPath.encode(f, want, x)
	if a != b {
		t.Fatalf("%d values: %d encoded, plain Go has %d", n, a, b)
	}
	if !gotSound() {
		t.Fatalf("%d values: encode wrote beside the destination", n)
	}
	if a < n {
		return
	}
	if !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%d values: byte %d is %#02x, plain Go has %#02x", n, i, got[i], want[i])
			}
		}
	}
	if at := p.check(f, n, got); at != -1 {
		t.Fatalf("%d values: block %d of what was encoded is found unsound", n, at)
	}
	checkDecoders(t, p, f, got, n, shift)
}

// checkDecoders holds the decoders of sound bytes against plain Go.
func checkDecoders(t *testing.T, p *path, f kernels.Format, src []byte, n, shift int) {
	t.Helper()
	seed := uint64(n + shift)
	for _, weight := range []float32{0.3, -1, 0, 1e30, float32(math.Inf(1))} {
		got, sound := parityValues(&seed, n, true)
		want := append([]float32(nil), got...)
		p.decodeAdd(f, got, src, weight)
		plainPath.decodeAdd(f, want, src, weight)
		for i := range got {
			if !sameBits(got[i], want[i]) {
				t.Fatalf("%d values, weight %v: sum %d is %v, plain Go has %v", n, weight, i, got[i], want[i])
			}
		}
		p.decode(f, got, src)
		plainPath.decode(f, want, src)
		for i := range got {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%d values: value %d decodes to %v, plain Go has %v", n, i, got[i], want[i])
			}
		}
		if !sound() {
			t.Fatalf("%d values: a decoder wrote beside the destination", n)
		}
	}
}

func TestFormatsAgree(t *testing.T) {
	eachFormat(t, func(t *testing.T, p *path, f kernels.Format) {
		r := rand.New(rand.NewPCG(8, uint64(f)))
		for n := range kernels.CodecBlock + 35 { // every tail, without and with whole blocks
			checkFormat(t, p, f, codecValues(r, n, n%codecKinds), n%5)
			checkFormat(t, p, f, codecValues(r, kernels.CodecBlock+n, (n+1)%codecKinds), (n+1)%67)
		}
		for kind := range codecKinds {
			for shift := range 64 {
				checkFormat(t, p, f, codecValues(r, 3*kernels.CodecBlock, kind), shift)
			}
			checkFormat(t, p, f, codecValues(r, 200*kernels.CodecBlock+9, kind), 1)
		}
	})
}

// TestEveryQuotientRoundsAlike goes through all 65,536 mantissas of a scale and all
// neighbours of all ties between two quantised values: where a kernel that does not
// divide could differ from one that does.
func TestEveryQuotientRoundsAlike(t *testing.T) {
	eachFormat(t, func(t *testing.T, p *path, f kernels.Format) {
		if f < kernels.FormatInt8 {
			t.Skip("this format has no scale")
		}
		qMax := map[kernels.Format]int{kernels.FormatInt8: 127, kernels.FormatInt4: 7}[f]
		var x []float32
		block := make([]float32, 0, kernels.CodecBlock)
		powers := []int{0, -126, -100, 107, 108, 109, 119}
		for mantissa := range 1 << 16 {
			power := 0
			if mantissa%37 == 0 { // mostly one exponent, for the others are multiples of it
				power = powers[mantissa%len(powers)]
			}
			scale := float32(math.Ldexp(1+float64(mantissa)/(1<<16), power))
			x = append(x[:0], float32(qMax)*scale) // exact, so that the scale is the block's
			for odd := 1; odd < 2*qMax; odd += 2 {
				tie := float32(odd) * scale / 2
				bits := math.Float32bits(tie)
				x = append(x, tie, -tie, math.Float32frombits(bits-1), math.Float32frombits(bits+1),
					-math.Float32frombits(bits-1), -math.Float32frombits(bits+1))
			}
			for rest := x[1:]; len(rest) > 0; { // each block begins with the largest value
				take := min(kernels.CodecBlock-1, len(rest))
				block = append(append(block[:0], x[0]), rest[:take]...)
				for len(block) < kernels.CodecBlock {
					block = append(block, 0)
				}
				rest = rest[take:]
				var got, want [4 + kernels.CodecBlock]byte
				size := f.EncodedLen(kernels.CodecBlock)
				p.encode(f, got[:size], block)
				plainPath.encode(f, want[:size], block)
				if got != want {
					t.Fatalf("scale %v: %x, plain Go has %x", scale, got[:size], want[:size])
				}
			}
		}
	})
}

// TestNotFiniteInEveryPlace puts what may not be encoded at every place of every lane.
func TestNotFiniteInEveryPlace(t *testing.T) {
	bad := []uint32{0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff, 0x7fffffff}
	eachFormat(t, func(t *testing.T, p *path, f kernels.Format) {
		const n = 3*kernels.CodecBlock + 40
		x := codecValues(rand.New(rand.NewPCG(1, 2)), n, 0)
		dst, sound := guardedBytes(f.EncodedLen(n), 3)
		for i := range n {
			old := x[i]
			x[i] = math.Float32frombits(bad[i%len(bad)])
			if got, want := p.encode(f, dst, x), i/kernels.CodecBlock*kernels.CodecBlock; got != want {
				t.Fatalf("%v at %d: encode returned %d, want %d", x[i], i, got, want)
			}
			x[i] = old
		}
		if !sound() {
			t.Error("encode wrote beside the destination")
		}
	})
}

// unsoundBytes is what no encoder writes, to put at a place of the encoding: for a byte
// of a value, or for a scale.
func unsoundBytes(f kernels.Format) (value [][]byte, scale []uint32) {
	switch f {
	case kernels.FormatFP32:
		return [][]byte{{0, 0, 0x80, 0x7f}, {1, 2, 0x83, 0xff}}, nil
	case kernels.FormatBF16:
		return [][]byte{{0x80, 0x7f}, {0xff, 0xff}}, nil
	case kernels.FormatInt8:
		value, scale = [][]byte{{0x80}}, []uint32{0x7c010200 + 128, 0x7c010200 + 1}
	default:
		value, scale = [][]byte{{0x08}, {0x80}, {0x18}, {0x81}, {0x88}}, []uint32{0x7e124900 + 128, 0x7e124900 + 1}
	}
	return value, append(scale, 0x7f800000, 0x7fc00000, 0xffffffff, 0x80000000, 0xbf800000, 0x00000080, 0x007fff80, 0x3f800001, 0x3f800040, 0)
}

func TestUnsoundInEveryPlace(t *testing.T) {
	eachFormat(t, func(t *testing.T, p *path, f kernels.Format) {
		const n = 3*kernels.CodecBlock + 41
		x := codecValues(rand.New(rand.NewPCG(1, 2)), n, 0)
		good, _ := guardedBytes(f.EncodedLen(n), 1)
		p.encode(f, good, x)
		size := f.EncodedLen(kernels.CodecBlock)
		values, scales := unsoundBytes(f)
		try := func(at int, put []byte) {
			old := append([]byte(nil), good[at:]...)
			copy(good[at:], put)
			if got, want := p.check(f, n, good), at/size; got != want {
				t.Fatalf("%x at byte %d: check says block %d, want %d", put, at, got, want)
			}
			copy(good[at:], old)
		}
		header := 0
		if len(scales) > 0 {
			header = 4
		}
		for block := 0; block*size < len(good); block++ {
			lo, hi := block*size, min((block+1)*size, len(good))
			for _, bits := range scales { // 0 is unsound for its values
				try(lo, binary.LittleEndian.AppendUint32(nil, bits))
			}
			for at := lo + header; at < hi; at += len(values[0]) {
				try(at, values[at%len(values)])
			}
		}
		if got := p.check(f, n, good); got != -1 {
			t.Errorf("sound bytes: check says block %d", got)
		}
	})
}

// TestOnlyValueUnderZeroScale has one value other than 0 in a block whose scale is 0.
func TestOnlyValueUnderZeroScale(t *testing.T) {
	eachFormat(t, func(t *testing.T, p *path, f kernels.Format) {
		if f < kernels.FormatInt8 {
			t.Skip("this format has no scale")
		}
		const n = 2*kernels.CodecBlock + 3
		src := make([]byte, f.EncodedLen(n))
		if got := p.check(f, n, src); got != -1 {
			t.Fatalf("zeros: check says block %d", got)
		}
		size := f.EncodedLen(kernels.CodecBlock)
		for at := range src {
			if at%size < 4 {
				continue
			}
			src[at] = 1
			if got := p.check(f, n, src); got != at/size {
				t.Fatalf("1 at byte %d under a zero scale: check says %d", at, got)
			}
			src[at] = 0
		}
	})
}

// FuzzFormatsAgree holds the encoders, and the decoders of whatever bytes they accept,
// against plain Go.
func FuzzFormatsAgree(f *testing.F) {
	f.Add([]byte{0, 0, 0x80, 0x3f, 127, 0, 2}, uint8(2), uint8(1))
	f.Add(bytes.Repeat([]byte{0, 0, 0x80, 0x3f}, 300), uint8(3), uint8(0))
	f.Fuzz(func(t *testing.T, raw []byte, which, shift uint8) {
		format := kernels.Format(which % uint8(kernels.FormatCount))
		raw = raw[:min(len(raw), 1<<13)]
		x := make([]float32, len(raw)/4)
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
		n := valuesIn(format, len(raw))
		raw = raw[:format.EncodedLen(n)]
		sound := plainPath.check(format, n, raw)
		for _, p := range assembly(t) {
			checkFormat(t, p, format, x, int(shift%70))
			if got := p.check(format, n, raw); got != sound {
				t.Fatalf("%s: check says block %d, plain Go %d", p.name, got, sound)
			}
			if sound == -1 {
				checkDecoders(t, p, format, raw, n, 0)
			}
		}
	})
}

// valuesIn is the largest number of values whose encoding has at most length bytes.
func valuesIn(f kernels.Format, length int) int {
	n := 0
	for f.EncodedLen(n+1) <= length {
		n++
	}
	return n
}

// TestFormatsAllocateNothing also on a length that is no multiple of a block.
func TestFormatsAllocateNothing(t *testing.T) {
	x := codecValues(rand.New(rand.NewPCG(3, 3)), 1000, 0)
	for f := range kernels.FormatCount {
		dst := make([]byte, f.EncodedLen(len(x)))
		if got := testing.AllocsPerRun(10, func() {
			f.Encode(dst, x)
			if f.Check(len(x), dst) < 0 {
				f.Decode(x, dst)
				f.DecodeAdd(x, dst, 1e-9)
			}
		}); got != 0 {
			t.Errorf("%s: %v allocations", formatNames[f], got)
		}
	}
}

// TestVectorsLargerThanCaches has what is stored past the caches: from any place in
// memory, with a tail, and with a value that is not finite in a stage.
func TestVectorsLargerThanCaches(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 150 MB")
	}
	const n = 17<<20 + 5*kernels.CodecBlock + 9
	x := make([]float32, n)
	copy(x, codecValues(rand.New(rand.NewPCG(5, 5)), 1<<20+77, 1))
	for done := 1<<20 + 77; done < n; done *= 2 { // other blocks by the odd length
		copy(x[done:], x[:done])
	}
	length := kernels.FormatInt8.EncodedLen(n)
	want := make([]byte, length)
	plainPath.encode(kernels.FormatInt8, want, x)
	room := make([]byte, length+128)
	for _, p := range assembly(t) {
		for _, shift := range []int{0, 4, 60, 31, 64} {
			for i := range room {
				room[i] = 0xa5
			}
			got := room[shift : shift+length]
			if done := p.encode(kernels.FormatInt8, got, x); done != n || !bytes.Equal(got, want) {
				t.Errorf("%s, shifted by %d: %d of %d values encoded, or other bytes than plain Go's", p.name, shift, done, n)
			}
			for i, b := range room {
				if (i < shift || i >= shift+length) && b != 0xa5 {
					t.Fatalf("%s, shifted by %d: wrote at %d beside the destination", p.name, shift, i-shift)
				}
			}
		}
		for _, at := range []int{0, 3 * kernels.CodecBlock, 1 << 22, n - 300, n - 1} {
			old := x[at]
			x[at] = float32(math.NaN())
			if got, want := p.encode(kernels.FormatInt8, room[4:4+length], x), at/kernels.CodecBlock*kernels.CodecBlock; got != want {
				t.Errorf("%s, NaN at %d: encode returned %d, want %d", p.name, at, got, want)
			}
			x[at] = old
		}
	}
}
