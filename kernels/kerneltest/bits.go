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
	cases := append(matMulCases(0), attentionCases()...)
	cases = append(cases, linearCases(0)...)
	cases = append(cases, layerCases()...)
	cases = append(cases, vectorCases()...)
	cases = append(cases,
		matMulCase(0, 257, 129, 65, false, true, false), matMulCase(0, 257, 65, 129, false, false, true), matMulCase(0, 65, 129, 257, true, false, true),
		linearCase(0, 257, 129, 65, true), linearCase(0, 130, 96, 700, false), linearSwiGLUCase(0, 257, 65, 129), linearBackwardCase(0, 257, 129, 600),
		normBackwardCase(513, 64), normCase(513, 64), swigluCase(257, 65), crossEntropyCase(0, 257, 256), embeddingBackwardCase(513, 32, 257))
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
