//go:build cuda && linux && amd64

package cuda

import (
	"os/exec"
	"path/filepath"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/kernels/kerneltest"
)

func TestConformanceFP32(t *testing.T) {
	kerneltest.Run(t, kernels.FP32, func(t *testing.T) kernels.Device { return device(t, kernels.FP32) })
}

func TestConformanceBF16(t *testing.T) {
	kerneltest.RunKept(t, func(t *testing.T) kernels.Device { return device(t, kernels.BF16) })
}

// The suite once more with the products of a library, which has its own idea of rows and
// columns: package driver's stand-in for cuBLAS.
func TestConformanceBF16WithBlas(t *testing.T) {
	library := ""
	if !*gpu {
		library = filepath.Join(t.TempDir(), "libcublas.so")
		out, err := exec.CommandContext(t.Context(), "gcc", "-O2", "-shared", "-fPIC", "-o", library, "driver/testdata/blas.c").CombinedOutput()
		if err != nil {
			t.Skipf("the stand-in for cuBLAS cannot be built: %v\n%s", err, out)
		}
	}
	open := func(t *testing.T) kernels.Device {
		if noDevice != "" {
			t.Skip(noDevice)
		}
		d, err := open(0, kernels.BF16, library)
		if err != nil {
			t.Fatal(err)
		}
		if d.blas == nil {
			d.Close()
			t.Skip("there is no cuBLAS")
		}
		return d
	}
	kerneltest.RunKept(t, open)
}

// Products of floats are the chains that kernels.Device describes, so they have the CPU's bits,
// and so has AdamW.
func TestFP32HasTheCPUsBits(t *testing.T) {
	cpu, err := cpu.New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	kerneltest.SameBitsOfChains(t, cpu, device(t, kernels.FP32))
}

// Every operation gives the same bits again.
func TestSameBitsEveryRun(t *testing.T) {
	for _, precision := range []kernels.Precision{kernels.FP32, kernels.BF16} {
		kerneltest.SameBits(t, device(t, precision), device(t, precision))
	}
}

// Shapes of more than one tile, in both directions, and k long enough to be cut in parts.
func TestProductsOfManyTiles(t *testing.T) {
	d := device(t, kernels.BF16)
	for _, shape := range [][3]int{{130, 260, 70}, {300, 140, 40}, {20, 24, 1100}, {136, 8, 800}, {1, 1, 515}} {
		for form := range 8 {
			kerneltest.CheckMatMul(t, d, kernels.BF16, shape[0], shape[1], shape[2], form&1 != 0, form&2 != 0, form&4 != 0)
		}
	}
}

// Heads of every kernel, sequences of more tiles than one, and groups.
func TestAttentionOfManyTiles(t *testing.T) {
	exact, kept := device(t, kernels.FP32), device(t, kernels.BF16)
	for _, s := range []kernels.AttentionShape{
		{Batch: 2, Seq: 150, Heads: 4, KVHeads: 2, HeadDim: 32},
		{Batch: 1, Seq: 200, Heads: 4, KVHeads: 2, HeadDim: 64},
		{Batch: 1, Seq: 129, Heads: 2, KVHeads: 1, HeadDim: 128},
		{Batch: 2, Seq: 70, Heads: 3, KVHeads: 1, HeadDim: 80},
		{Batch: 1, Seq: 140, Heads: 2, KVHeads: 1, HeadDim: 96},
		{Batch: 1, Seq: 67, Heads: 2, KVHeads: 2, HeadDim: 104},
		{Batch: 1, Seq: 65, Heads: 3, KVHeads: 3, HeadDim: 37},
		{Batch: 1, Seq: 40, Heads: 2, KVHeads: 1, HeadDim: 200},
	} {
		kerneltest.CheckAttention(t, exact, s)
		kerneltest.CheckAttentionKept(t, kept, s)
	}
}
