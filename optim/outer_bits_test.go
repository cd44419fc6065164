package optim

import (
	"math"
	"slices"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
)

// The outer steps in one expression a value, each operation rounded to float32. Checkpoints
// and replicas depend on these bits: a step that is composed otherwise must keep them.

func plainDifference(dst, a, b []float32) {
	for i := range dst {
		dst[i] = a[i] - b[i]
	}
}

func plainRebase(fast, from, to []float32) {
	for i := range fast {
		fast[i] = to[i] + (fast[i] - from[i])
	}
}

func plainNesterov(o Nesterov, slow, b, delta []float32) {
	for i, g := range delta {
		b[i] = float32(o.Momentum*b[i]) + g
		slow[i] -= float32(o.LR * (g + float32(o.Momentum*b[i])))
	}
}

func plainNoLoCo(o NoLoCo, slow, momentum, meanDelta, meanSlow []float32) {
	for i := range slow {
		pull := float32(o.Gamma * (slow[i] - meanSlow[i]))
		momentum[i] = float32(o.Alpha*momentum[i]) + float32(o.Beta*meanDelta[i]) - pull
		slow[i] += momentum[i]
	}
}

func plainNoLoCoFast(o NoLoCo, slow, momentum, meanFast []float32) {
	for i := range slow {
		momentum[i] = float32(o.Alpha*momentum[i]) + float32(o.Beta*(meanFast[i]-slow[i]))
		slow[i] += momentum[i]
	}
}

// wideValues returns n finite values of every exponent and both signs, among them zeros,
// subnormal values and the largest, and runs in which all vectors are of like size.
func wideValues(n int, seed uint64) []float32 {
	v := make([]float32, n)
	special := []uint32{0, 1 << 31, 1, 1<<31 | 1, 0x007fffff, 0x00800000, 0x80800000, 0x7f7fffff, 0xff7fffff, 0x3f800000}
	for i := range v {
		seed = seed*6364136223846793005 + 1442695040888963407
		bits := uint32(seed >> 32)
		switch draw := seed >> 20 & 7; {
		case i/4096%2 == 0 || draw == 0: // exponents within 2⁻⁸ and 2⁷ of 1
			bits = bits&0x807fffff | (119+bits>>23&15)<<23
		case draw == 1:
			bits = special[seed>>24%uint64(len(special))]
		case draw == 2: // subnormal
			bits &= 0x807fffff
		case bits>>23&0xff == 0xff: // neither infinite nor NaN
			bits &^= 1 << 30
		}
		v[i] = math.Float32frombits(bits)
	}
	return v
}

// An infinity is what the largest values make; two of them make a NaN, whose bits the
// architecture chooses.
func sameBits(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestOuterStepsKeepTheirBits(t *testing.T) {
	const n = 1 << 20
	steps := []struct {
		name   string
		device func(on kernels.Exchanger, v []kernels.Buffer)
		plain  func(v [][]float32)
	}{
		{"pseudo-gradient",
			func(on kernels.Exchanger, v []kernels.Buffer) { PseudoGradient(on, v[0], v[1], v[2]) },
			func(v [][]float32) { plainDifference(v[0], v[1], v[2]) }},
		{"pseudo-gradient over the slow weights",
			func(on kernels.Exchanger, v []kernels.Buffer) { PseudoGradient(on, v[0], v[0], v[1]) },
			func(v [][]float32) { plainDifference(v[0], v[0], v[1]) }},
		{"progress over the slow weights",
			func(on kernels.Exchanger, v []kernels.Buffer) { Progress(on, v[0], v[0], v[1]) },
			func(v [][]float32) { plainDifference(v[0], v[1], v[0]) }},
		{"rebase",
			func(on kernels.Exchanger, v []kernels.Buffer) { Rebase(on, v[0], v[1], v[2]) },
			func(v [][]float32) { plainRebase(v[0], v[1], v[2]) }},
		{"Nesterov",
			func(on kernels.Exchanger, v []kernels.Buffer) { Nesterov{0.7, 0.9}.Step(on, v[0], v[1], v[2]) },
			func(v [][]float32) { plainNesterov(Nesterov{0.7, 0.9}, v[0], v[1], v[2]) }},
		{"NoLoCo",
			func(on kernels.Exchanger, v []kernels.Buffer) {
				NoLoCo{0.5, 0.7, 0.6}.Step(on, v[0], v[1], v[2], v[3])
			},
			func(v [][]float32) { plainNoLoCo(NoLoCo{0.5, 0.7, 0.6}, v[0], v[1], v[2], v[3]) }},
		{"NoLoCo fast",
			func(on kernels.Exchanger, v []kernels.Buffer) { NoLoCo{0.5, 0.7, 0.7}.StepFast(on, v[0], v[1], v[2]) },
			func(v [][]float32) { plainNoLoCoFast(NoLoCo{0.5, 0.7, 0.7}, v[0], v[1], v[2]) }},
	}
	for _, s := range steps {
		var got, want [][]float32
		for i := range 4 {
			got = append(got, wideValues(n, uint64(i+1)))
			want = append(want, slices.Clone(got[i]))
		}
		onDevice(func(d *cpu.Device, x []kernels.Buffer) { s.device(d, x) }, got...)
		s.plain(want)
		for k := range want {
			for i := range want[k] {
				if !sameBits(got[k][i], want[k][i]) {
					t.Fatalf("%s: operand %d, value %d is %v (%08x), want %v (%08x)", s.name, k, i,
						got[k][i], math.Float32bits(got[k][i]), want[k][i], math.Float32bits(want[k][i]))
				}
			}
		}
	}
}
