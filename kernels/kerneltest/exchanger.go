package kerneltest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"loco/kernels"
)

// Random returns n values within ±2, the same for the same seed.
func Random(n int, seed uint32) []float32 {
	v := make([]float32, n)
	for i := range v {
		seed = seed*1664525 + 1013904223
		v[i] = float32(int32(seed)) / (1 << 30)
	}
	return v
}

// wide returns n finite values of every exponent and both signs, among them zeros and
// subnormal values; every second run of 64 has values of like size, whose sums round.
func wide(n int, seed uint32) []float32 {
	v := Random(n, seed)
	for i := range v {
		seed = seed*1664525 + 1013904223
		switch bits := seed>>8 | seed<<24; {
		case i/64%2 == 0:
		case bits&7 == 0:
			v[i] = math.Float32frombits(bits & 0x80000000)
		case bits&7 == 1:
			v[i] = math.Float32frombits(bits & 0x807fffff)
		case bits>>23&0xff == 0xff:
			v[i] = math.MaxFloat32
		default:
			v[i] = math.Float32frombits(bits)
		}
	}
	return v
}

// axpby defines Exchanger's Axpby and, with a z, AxpbSum: each operation in float32.
func axpby(dst []float32, a float32, x []float32, b float32, y []float32, c float32, z []float32) {
	for i := range dst {
		second := y[i]
		if z != nil {
			second += float32(c * z[i])
		}
		dst[i] = float32(a*x[i]) + float32(b*second)
	}
}

// An exchanger is what CheckAxpby asks of a device.
type exchanger interface {
	kernels.Device
	kernels.Exchanger
}

// CheckAxpby compares Axpby and AxpbSum with their definition to the bit: at every length up
// to a few vectors and one of many tasks, with each operand as the destination, and in views
// that begin anywhere.
func CheckAxpby(t *testing.T, d exchanger) {
	t.Helper()
	for n := range 131 {
		checkAxpbyOf(t, d, n, n%4)
	}
	for dst := range 4 {
		checkAxpbyOf(t, d, 100_003, dst)
	}
	for _, operand := range []string{"x", "y", "z"} {
		lengths := map[string]int{"x": 3, "y": 3, "z": 3, operand: 6}
		b := map[string]kernels.Buffer{}
		for name, n := range lengths {
			b[name] = allocated(t, d, make([]float32, n))
		}
		message := panicOf(func() { d.AxpbSum(allocated(t, d, make([]float32, 3)), 1, b["x"], 1, b["y"], 1, b["z"]) })
		for _, want := range []string{"axpby", operand, "6", "3"} {
			if !strings.Contains(message, want) {
				t.Errorf("with a longer %s: panic %q does not name %q", operand, message, want)
			}
		}
	}
}

// checkAxpbyOf makes operand number to the destination: 0 is one of its own.
func checkAxpbyOf(t *testing.T, d exchanger, n, to int) {
	t.Helper()
	const before = 3
	for _, factors := range [][3]float32{{1, -1, -1}, {0.7, 1, 0.9}, {1, -0.7, 0.9}, {0, 3e20, 1e-30}} {
		for _, nested := range []bool{false, true} {
			var views []kernels.Buffer
			var want [][]float32
			for k := range 4 {
				v := wide(n+before, uint32(7*n+k))
				want = append(want, slices.Clone(v[before:]))
				views = append(views, allocated(t, d, v).Slice(before, n+before))
			}
			z := want[3]
			if nested {
				d.AxpbSum(views[to], factors[0], views[1], factors[1], views[2], factors[2], views[3])
			} else {
				z = nil
				d.Axpby(views[to], factors[0], views[1], factors[1], views[2])
			}
			axpby(want[to], factors[0], want[1], factors[1], want[2], factors[2], z)
			what := fmt.Sprintf("%s, nested %v, factors %v, %d values into operand %d", d.Name(), nested, factors, n, to)
			got := make([]float32, n)
			for k, view := range views {
				d.Download(got, view)
				for i := range got {
					if math.Float32bits(got[i]) != math.Float32bits(want[k][i]) && (got[i] == got[i] || want[k][i] == want[k][i]) {
						t.Fatalf("%s: value %d of operand %d is %v, want %v", what, i, k, got[i], want[k][i])
					}
				}
			}
		}
	}
}

func allocated(t *testing.T, d kernels.Device, v []float32) kernels.Buffer {
	t.Helper()
	b, err := d.Alloc(len(v))
	if err != nil {
		t.Fatal(err)
	}
	d.Upload(b, v)
	return b
}
