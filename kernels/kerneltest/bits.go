package kerneltest

import (
	"math"
	"testing"

	"loco/kernels"
)

// SameBits runs every case of the suite, and shapes large enough to be shared out
// between threads, on all devices and fails where one gives other bits than the first.
// It closes the devices.
func SameBits(t *testing.T, devices ...kernels.Device) {
	t.Helper()
	cases := append(matMulCases(rounding{}), attentionCases(rounding{})...)
	cases = append(cases, linearCases(rounding{})...)
	cases = append(cases, layerCases(rounding{})...)
	cases = append(cases, vectorCases()...)
	cases = append(cases,
		matMulCase(rounding{}, 257, 129, 65, false, true, false), matMulCase(rounding{}, 257, 65, 129, false, false, true), matMulCase(rounding{}, 65, 129, 257, true, false, true),
		linearCase(rounding{}, 257, 129, 65, true), linearCase(rounding{}, 130, 96, 700, false), linearSwiGLUCase(rounding{}, 257, 65, 129), linearBackwardCase(rounding{}, 257, 129, 600),
		normBackwardCase(513, 64), normCase(rounding{}, 513, 64), swigluCase(rounding{}, 257, 65), crossEntropyCase(rounding{}, 0, 257, 256), embeddingBackwardCase(513, 32, 257))
	sameBits(t, cases, devices)
}

// SameBitsOfChains is SameBits for the operations whose every rounding device.go fixes, on any
// kind of device that multiplies in FP32: products, and operations on values one by one.
func SameBitsOfChains(t *testing.T, devices ...kernels.Device) {
	t.Helper()
	cases := append(matMulCases(rounding{}), linearCases(rounding{})...)
	cases = append(cases, vectorCases()...)
	cases = append(cases, matMulCase(rounding{}, 257, 129, 65, false, true, false), linearBackwardCase(rounding{}, 257, 129, 600))
	sameBits(t, cases, devices)
}

func sameBits(t *testing.T, cases []opCase, devices []kernels.Device) {
	t.Helper()
	for _, c := range cases {
		want, _ := after(t, devices[0], c)
		for _, d := range devices[1:] {
			got, _ := after(t, d, c)
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Errorf("%s: value %d is %v on %s and %v on %s", c.name, i, got[i], d.Name(), want[i], devices[0].Name())
					break
				}
			}
		}
	}
	for _, d := range devices {
		if err := d.Close(); err != nil {
			t.Errorf("close %s: %v", d.Name(), err)
		}
	}
}
