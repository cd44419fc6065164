package cpu_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
)

// hashLens are the lengths at which leaves, tasks and SHA-256's own padding begin and end.
var hashLens = []int{0, 1, 13, 14, 15, 16, 17, 1023, 1024, 1025, 16*1024 - 1, 16*1024 + 1, 50_021}

// The hashes are those of the values' little-endian bytes, at any number of threads, whatever
// the values are, and of any part of a buffer.
func TestHashIsThatOfTheBytes(t *testing.T) {
	for _, threads := range []int{1, 2, 5} {
		d, err := cpu.New(threads, kernels.FP32)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range hashLens {
			v := make([]float32, n+3)
			for i := range v {
				v[i] = math.Float32frombits(uint32(i)*2654435769 + 7) // NaNs and infinities among them
			}
			x, err := d.Alloc(n + 3)
			if err != nil {
				t.Fatal(err)
			}
			d.Upload(x, v)
			var want, raw []byte
			for i, f := range v[2 : n+2] {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
				if len(raw)%4096 == 0 || i == n-1 {
					sum := sha256.Sum256(raw[(len(raw)-1)/4096*4096:])
					want = append(want, sum[:]...)
				}
			}
			got, host := make([]byte, kernels.HashLen(n)), make([]byte, kernels.HashLen(n))
			d.Hash(got, x.Slice(2, n+2))
			kernels.HashLeaves(host, raw)
			if !bytes.Equal(got, want) || !bytes.Equal(host, want) {
				t.Fatalf("%d threads, %d values:\n%x on the device\n%x of the bytes\n%x wanted", threads, n, got, host, want)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A vector's hash is the same everywhere: this one is what `printf '\0\0\200?' | sha256sum` says.
func TestHashIsPinned(t *testing.T) {
	d, err := cpu.New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	x, err := d.Alloc(1)
	if err != nil {
		t.Fatal(err)
	}
	d.Upload(x, []float32{1})
	got := make([]byte, 32)
	d.Hash(got, x)
	const want = "e00e5eb9444182f352323374ef4e08ebcb784725fdd4fd612d7730540b3e0c8c"
	if hex.EncodeToString(got) != want {
		t.Errorf("the hash of 1 is %x, want %s", got, want)
	}
}

func TestHashAllocatesNothing(t *testing.T) {
	d, err := cpu.New(2, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const n = 40_000
	x, err := d.Alloc(n)
	if err != nil {
		t.Fatal(err)
	}
	dst, raw := make([]byte, kernels.HashLen(n)), make([]byte, 4*n)
	if k := testing.AllocsPerRun(5, func() { d.Hash(dst, x); kernels.HashLeaves(dst, raw) }); k != 0 {
		t.Errorf("hashing allocates %v times", k)
	}
}

func TestHashRefusesAnotherLength(t *testing.T) {
	defer func() {
		if s, ok := recover().(string); !ok || !strings.Contains(s, "hash leaves") {
			t.Errorf("panicked with %q, want what was asked for named", s)
		}
	}()
	kernels.HashLeaves(make([]byte, 32), make([]byte, 4097))
}

func BenchmarkHash(b *testing.B) {
	d, err := cpu.New(0, kernels.FP32)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	const n = 1 << 22
	x, err := d.Alloc(n)
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, kernels.HashLen(n))
	b.SetBytes(4 * n)
	for b.Loop() {
		d.Hash(dst, x)
	}
}
