//go:build cuda && linux && amd64

package cuda

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/kernels/cuda/driver"
	"loco/kernels/kerneltest"
	"loco/trainer/model"
)

// withBlas opens a device that multiplies with cuBLAS: the machine's own or, behind the emulator,
// package driver's stand-in for it. Where there is none it says why.
func withBlas(t *testing.T) (*Device, error) {
	t.Helper()
	library := ""
	if !*gpu {
		library = filepath.Join(t.TempDir(), "libcublas.so")
		out, err := exec.CommandContext(t.Context(), "gcc", "-O2", "-shared", "-fPIC", "-o", library, "driver/testdata/blas.c").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("the stand-in for cuBLAS cannot be built: %w\n%s", err, out)
		}
	}
	d, err := open(0, kernels.BF16, library)
	if err != nil {
		t.Fatal(err)
	}
	if d.blas == nil {
		err := d.WithoutBlas()
		if closing := d.Close(); closing != nil {
			t.Fatal(closing)
		}
		return nil, err
	}
	return d, nil
}

// Products of cuBLAS have the same bits again too, which its fixed workspace is for.
func TestSameBitsEveryRunWithBlas(t *testing.T) {
	if !*gpu {
		t.Skip("the emulator's stand-in for cuBLAS is a plain loop")
	}
	var devices []kernels.Device
	for range 2 {
		d, err := withBlas(t)
		if err != nil {
			t.Skip(err)
		}
		devices = append(devices, d)
	}
	kerneltest.SameBits(t, devices...)
}

// middle is a model of the kind that is trained, with the kernels for heads of 64 and many tiles of
// everything, and as large as a CPU of two cores does 12 steps of in some 20 s.
func middle() model.Config {
	c := model.Default()
	c.Vocab, c.Layers, c.Width, c.Heads, c.KVHeads, c.FFN, c.Context = 8192, 4, 512, 8, 4, 1408, 512
	return c
}

// A middle model's loss, which falls from 9.1 to 0.9, is within 0.006 nats of float32's where the CPU
// multiplies in bf16: a GPU that rounds activations too is allowed five times as much, and in
// float32, where each rounding is 2¹⁵ times as fine, far less.
const (
	middleTolerance     = 0.03
	middleToleranceFP32 = 1e-4
)

// learn returns the losses of steps steps at a rate that suits such a model, on a language of as many
// tokens as it can learn in so few: 61, all over the vocabulary.
func learn(t *testing.T, dev kernels.Device, cfg model.Config, steps int) (losses []float64) {
	t.Helper()
	m, err := model.New(dev, cfg, 2)
	if err != nil {
		t.Fatal(err)
	}
	dev.Upload(m.Params(), cfg.Init(7))
	const words = 61
	inputs, targets := make([]int32, m.Rows()), make([]int32, m.Rows())
	for step := 1; step <= steps; step++ {
		word := step
		for i := range inputs {
			inputs[i] = int32(word * (cfg.Vocab / words))
			word = (word*7 + 3) % words
			targets[i] = int32(word * (cfg.Vocab / words))
		}
		m.ZeroGrad()
		losses = append(losses, m.Accumulate(inputs, targets, 1/float32(m.Rows()))/float64(m.Rows()))
		c := float32(step)
		m.Update(kernels.AdamWStep{LR: 3e-4, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Correction1: c / (c + 9), Correction2: c / (c + 19), GradScale: 1})
	}
	return losses
}

// TestParity trains beside the CPU for longer than the suite does, and a larger model.
func TestParity(t *testing.T) {
	if !*gpu && !*small {
		t.Skip("runs with -gpu: the emulator takes a minute")
	}
	if noDevice != "" {
		t.Skip(noDevice)
	}
	parity(t, "tiny, 50 steps", lossToleranceFP32, lossTolerance, func(dev kernels.Device) []float64 { return train(t, dev, tiny(), 2, 1, 50) })
	if *gpu && !*small {
		parity(t, "16M, 12 steps", middleToleranceFP32, middleTolerance, func(dev kernels.Device) []float64 { return learn(t, dev, middle(), 12) })
	}
}

// parity prints a row for each way to multiply.
func parity(t *testing.T, name string, fp32, bf16 float64, losses func(kernels.Device) []float64) {
	t.Helper()
	cpu, err := cpu.New(0, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer cpu.Close()
	want := losses(cpu)
	fmt.Printf("%s on the CPU in float32: its loss falls from %.2f to %.2f\n", name, want[0], want[len(want)-1])
	for _, c := range []struct {
		products  string
		tolerance float64
		open      func() (*Device, error)
	}{
		{"fp32", fp32, func() (*Device, error) { return device(t, kernels.FP32), nil }},
		{"bf16", bf16, func() (*Device, error) { return device(t, kernels.BF16), nil }},
		{"bf16 with cuBLAS", bf16, func() (*Device, error) { return withBlas(t) }},
	} {
		row := fmt.Sprintf("%s in %s: loss beside the CPU's", name, c.products)
		d, err := c.open()
		if err != nil {
			fmt.Println(leftOut(row, err))
			continue
		}
		worst := 0.0
		for i, loss := range losses(d) {
			if off := math.Abs(loss - want[i]); !(off <= worst) { // NaN is the worst
				worst = off
			}
		}
		fmt.Println(atMost(row, "nats", worst, c.tolerance))
		if !(worst <= c.tolerance) {
			t.Errorf("%s: %.3g nats, want at most %g", row, worst, c.tolerance)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestGPUCompiles says how long the driver takes for the PTX. Its cache is where run.sh puts it.
func TestGPUCompiles(t *testing.T) {
	if !*gpu && !*small {
		t.Skip("compilers are timed with -gpu")
	}
	if noDevice != "" {
		t.Skip(noDevice)
	}
	cache := "the driver's cache as it was"
	if path := os.Getenv("CUDA_CACHE_PATH"); path != "" {
		cache = "the driver's cache empty"
		if files, err := os.ReadDir(path); err == nil && len(files) > 0 {
			cache = "the driver's cache filled"
		}
	}
	began := time.Now()
	context, err := driver.Open(0) // so that its time is not the compiler's
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(row{name: "driver and context start", unit: "s", rate: time.Since(began).Seconds()})
	began = time.Now()
	d, err := open(0, kernels.BF16, noBlas)
	if err != nil {
		t.Fatal(err)
	}
	d.Scale(upload(t, d, []float32{1}), 2)
	if err := d.Stream().Synchronize(); err != nil || d.Err() != nil {
		t.Fatal(err, d.Err())
	}
	fmt.Println(row{name: fmt.Sprintf("the PTX's %d kernels compile, %s", len(d.functions), cache), unit: "s", rate: time.Since(began).Seconds()})
	for _, err := range []error{d.Close(), context.Close()} {
		if err != nil {
			t.Error(err)
		}
	}
}
