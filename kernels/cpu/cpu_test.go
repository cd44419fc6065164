package cpu_test

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/kernels/kerneltest"
	"loco/kernels/reference"
)

func deviceOf(t testing.TB, threads int) *cpu.Device {
	t.Helper()
	d, err := cpu.New(threads, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func deviceOn(t testing.TB, threads int, path string) *cpu.Device {
	t.Helper()
	d, err := cpu.NewOn(threads, path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func deviceBF16(t testing.TB, threads int, half string) *cpu.Device {
	t.Helper()
	d, err := cpu.NewBF16(threads, half)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	for _, path := range cpu.Paths() {
		for _, threads := range []int{1, 3} {
			if threads == 1 && testing.Short() {
				continue
			}
			t.Run(fmt.Sprintf("%s/threads=%d", path, threads), func(t *testing.T) {
				kerneltest.Run(t, kernels.FP32, func(t *testing.T) kernels.Device { return deviceOn(t, threads, path) })
			})
		}
	}
}

func TestConformanceInBF16(t *testing.T) {
	cpu.EachHalf(t, func(t *testing.T, half string) {
		for _, threads := range []int{1, 3} {
			t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) {
				kerneltest.Run(t, kernels.BF16, func(t *testing.T) kernels.Device { return deviceBF16(t, threads, half) })
			})
		}
	})
}

func TestSameBits(t *testing.T) {
	var devices []kernels.Device
	for _, path := range cpu.Paths() {
		for _, threads := range []int{1, 2, 3, 8} {
			if testing.Short() && threads%2 == 0 {
				continue
			}
			devices = append(devices, deviceOn(t, threads, path))
		}
	}
	kerneltest.SameBits(t, devices...)
}

// One way of bf16 has the same bits at any number of threads.
func TestSameBitsInBF16(t *testing.T) {
	cpu.EachHalf(t, func(t *testing.T, half string) {
		kerneltest.SameBits(t, deviceBF16(t, 1, half), deviceBF16(t, 2, half), deviceBF16(t, 3, half), deviceBF16(t, 8, half))
	})
}

func TestStepAllocatesNothing(t *testing.T) {
	var devices []*cpu.Device
	for _, path := range cpu.Paths() {
		devices = append(devices, deviceOn(t, 1, path), deviceOn(t, 2, path))
	}
	for _, half := range cpu.Halves() {
		devices = append(devices, deviceBF16(t, 1, half), deviceBF16(t, 2, half))
	}
	for _, d := range devices {
		step, _ := kerneltest.Step(t, d)
		step() // grows the scratch memory
		if n := testing.AllocsPerRun(2, step); n != 0 {
			t.Errorf("%s: a step allocates %v times, want 0", d.Name(), n)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestStepBits pins three steps to the bit: every machine, of whatever architecture,
// must give this hash. A change of an operation's order of arithmetic changes it.
func TestStepBits(t *testing.T) {
	var devices []*cpu.Device
	for _, path := range cpu.Paths() {
		devices = append(devices, deviceOn(t, 1, path), deviceOn(t, 3, path))
	}
	for _, d := range devices {
		step, table := kerneltest.Step(t, d)
		for range 3 {
			step()
		}
		values := make([]float32, table.Len())
		d.Download(values, table)
		hash := uint64(14695981039346656037)
		for i, v := range values {
			if v != v {
				t.Fatalf("value %d is NaN: the hash would say nothing", i)
			}
			hash = (hash ^ uint64(math.Float32bits(v))) * 1099511628211
		}
		if want := uint64(0x049fc6a627392708); hash != want {
			t.Errorf("%s: hash of the table after three steps is %#x, want %#x", d.Name(), hash, want)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNewRefusesThreadCounts(t *testing.T) {
	for _, threads := range []int{-1, 1025} {
		if _, err := cpu.New(threads, kernels.FP32); err == nil || !strings.Contains(err.Error(), strconv.Itoa(threads)) {
			t.Errorf("New(%d): error %v, want one that names the number", threads, err)
		}
	}
}

func TestNames(t *testing.T) {
	fastest := cpu.Paths()[0]
	for threads, want := range map[int]string{1: "cpu (1 thread, " + fastest + ", fp32)", 2: "cpu (2 threads, " + fastest + ", fp32)"} {
		d := deviceOf(t, threads)
		if d.Name() != want {
			t.Errorf("name %q, want %q", d.Name(), want)
		}
		d.Close()
	}
	d := deviceOf(t, 0)
	defer d.Close()
	if want := fmt.Sprintf("(%d thread", runtime.GOMAXPROCS(0)); !strings.Contains(d.Name(), want) {
		t.Errorf("name with 0 threads %q, want %q in it", d.Name(), want)
	}
}

func TestAllocatedCountsBytes(t *testing.T) {
	d := deviceOf(t, 1)
	defer d.Close()
	if _, err := d.Alloc(100); err != nil {
		t.Fatal(err)
	}
	if _, err := d.AllocTokens(7); err != nil {
		t.Fatal(err)
	}
	if d.Allocated() != 428 {
		t.Errorf("107 values take %d bytes, want 428", d.Allocated())
	}
}

func TestForeignBuffersAreRefused(t *testing.T) {
	d := deviceOf(t, 1)
	defer d.Close()
	own, err := d.Alloc(1)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := reference.New().Alloc(1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if r := fmt.Sprint(recover()); !strings.Contains(r, "another device") || !strings.Contains(r, "add") {
			t.Errorf("panic %q does not say that a buffer of another device was added", r)
		}
	}()
	d.Add(own, foreign)
}

func TestCloseEndsTheThreads(t *testing.T) {
	// In a bubble a goroutine that is left over fails the test.
	synctest.Test(t, func(t *testing.T) {
		d := deviceOf(t, 4)
		step, _ := kerneltest.Step(t, d)
		step()
		for range 2 { // closing twice is harmless
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzMatMul(f *testing.F) {
	f.Add(uint8(4), uint8(2), uint8(2), uint8(0))
	f.Add(uint8(33), uint8(65), uint8(17), uint8(7))
	f.Add(uint8(0), uint8(1), uint8(0), uint8(4))
	f.Fuzz(func(t *testing.T, m, n, k, form uint8) {
		for _, path := range cpu.Paths() {
			d := deviceOn(t, 1+int(form>>3&1), path)
			kerneltest.CheckMatMul(t, d, kernels.FP32, int(m%80), int(n%80), int(k%80), form&1 != 0, form&2 != 0, form&4 != 0)
			d.Close()
		}
		for _, half := range cpu.Halves() {
			d := deviceBF16(t, 1+int(form>>3&1), half)
			kerneltest.CheckMatMul(t, d, kernels.BF16, int(m%80), int(n%80), int(k%80), form&1 != 0, form&2 != 0, form&4 != 0)
			d.Close()
		}
	})
}

func FuzzAttention(f *testing.F) {
	f.Add(uint8(1), uint8(9), uint8(2), uint8(2), uint8(4))
	f.Add(uint8(2), uint8(64), uint8(1), uint8(4), uint8(16))
	f.Fuzz(func(t *testing.T, batch, seq, kvHeads, group, headDim uint8) {
		kv := 1 + int(kvHeads%3)
		s := kernels.AttentionShape{
			Batch: int(batch % 3), Seq: int(seq % 70), KVHeads: kv, Heads: kv * (1 + int(group%4)), HeadDim: 1 + int(headDim%33),
		}
		for _, path := range cpu.Paths() {
			d := deviceOn(t, 1+int(seq&1), path)
			kerneltest.CheckAttention(t, d, s)
			d.Close()
		}
	})
}
