//go:build cuda && linux && amd64

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"loco/kernels/cuda/emulator"
	"loco/worker/process"
)

var requireEmulator = flag.Bool("require-emulator", false, "fail where the stand-in for CUDA's driver cannot be built, instead of skipping")

// cudaMachine is a machine as the program sees it: the loader's path has a folder with a
// driver's library, or one without.
type cudaMachine struct {
	t      *testing.T
	binary string
	env    []string
}

func newCUDAMachine(t *testing.T) *cudaMachine {
	t.Helper()
	folder := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if _, err := emulator.Build(ctx, folder, emulator.Options{}); err != nil {
		if *requireEmulator {
			t.Fatal(err)
		}
		t.Skip("NOT TESTED: ", err)
	}
	binary := filepath.Join(folder, "loco")
	if out, err := exec.CommandContext(ctx, "go", "build", "-tags", "cuda", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return &cudaMachine{t, binary, []string{"LD_LIBRARY_PATH=" + folder}}
}

// with is the machine with another environment.
func (m *cudaMachine) with(t *testing.T, env ...string) *cudaMachine {
	return &cudaMachine{t, m.binary, append(m.env, env...)}
}

// loco runs the program and returns both outputs.
func (m *cudaMachine) loco(wantExit bool, args ...string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 3*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, m.binary, args...)
	c.Env = append(os.Environ(), m.env...)
	out, err := c.CombinedOutput()
	if (err == nil) != wantExit {
		m.t.Fatalf("loco %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// tinyWorker is a run of one worker that the emulator can do: half a minute would be too much.
func tinyWorker(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{"worker", "--json", "--dir", t.TempDir()}, small(t, append([]string{
		"run.workers=1", "run.rounds=4", "sync.inner_steps=2", "inner.warmup=1", "run.eval_tokens=128", "run.eval_every=0", "inner.precision=fp32",
	}, more...)...)...)
}

var heldoutLoss = regexp.MustCompile(`"heldout_loss":([0-9.]+)`)

func lossOf(t *testing.T, out string) float64 {
	t.Helper()
	found := heldoutLoss.FindAllStringSubmatch(out, -1)
	if found == nil {
		t.Fatalf("no evaluation in\n%s", out)
	}
	loss, err := strconv.ParseFloat(found[len(found)-1][1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return loss
}

func wantWords(t *testing.T, out string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in\n%s", w, out)
		}
	}
}

func TestCUDA(t *testing.T) {
	gpu := newCUDAMachine(t)
	none := &cudaMachine{t, gpu.binary, nil}
	t.Run("lists devices", func(t *testing.T) {
		wantWords(t, gpu.with(t).loco(true, "config", "show", "--devices"), "cuda:0  ", "cuda:1  ", "GiB free of", "compute capability 8.0", "driver CUDA 12.4", "cpu (")
		wantWords(t, none.with(t).loco(true, "config", "show", "--devices"), "no GPU: cuda: no NVIDIA driver on this machine", "cpu (")
	})
	t.Run("without a driver", func(t *testing.T) {
		out := none.with(t).loco(true, tinyWorker(t, "run.rounds=1")...)
		wantWords(t, out, "computing on the CPU: cuda: no NVIDIA driver on this machine", `"complete":true`)
		wantWords(t, none.with(t).loco(false, tinyWorker(t, "inner.device=cuda:0")...), "no NVIDIA driver on this machine")
	})
	t.Run("bad numbers", func(t *testing.T) {
		wantWords(t, gpu.with(t).loco(false, tinyWorker(t, "inner.device=cuda:7")...), "there is no cuda:7 on this machine: it has 2 GPUs")
		wantWords(t, gpu.with(t).loco(false, tinyWorker(t, "inner.devices=0,5")...), "there is no cuda:5")
	})
	t.Run("too little memory", func(t *testing.T) {
		big := []string{"inner.device=cuda:0", "model.width=1024", "model.ffn=4096", "model.layers=8", "model.context=1024", "inner.batch=64", "run.eval_tokens=1024"}
		wantWords(t, gpu.with(t).loco(false, tinyWorker(t, big...)...), "this run needs at least", "on cuda:0", "4.29 GB of 4.29 GB free", "set inner.micro_batch = ")
		wantWords(t, gpu.with(t).loco(false, tinyWorker(t, append(big, "model.layers=100")...)...), "even with inner.micro_batch = 1 and model.checkpointing = true")
	})
	t.Run("memory that others hold", func(t *testing.T) {
		all := int64(4) << 30
		wantWords(t, gpu.with(t, fmt.Sprint("EMULATOR_HELD=", all-1<<16)).loco(false, tinyWorker(t, "inner.device=cuda:0")...), "free")
		out := gpu.with(t, fmt.Sprint("EMULATOR_GRABBED=", all-256<<10)).loco(false, tinyWorker(t, "inner.device=cuda:0")...)
		wantWords(t, out, "other programs and the driver hold the rest", "inner.micro_batch", "model.checkpointing")
		if strings.Contains(out, `"event":"address"`) {
			t.Errorf("the worker entered the mesh before it knew that its model does not fit:\n%s", out)
		}
		out = gpu.with(t, fmt.Sprint("EMULATOR_HELD=", all-40<<20)).loco(true, tinyWorker(t, "inner.device=cuda:0")...)
		wantWords(t, out, `"complete":true`)
	})
	t.Run("trains as the CPU does", func(t *testing.T) {
		want := lossOf(t, none.with(t).loco(true, tinyWorker(t, "inner.device=cpu")...))
		for _, device := range []string{"inner.device=auto", "inner.device=cuda:1", "inner.devices=0,1"} {
			if got := lossOf(t, gpu.with(t).loco(true, tinyWorker(t, device)...)); got < want-1e-3 || got > want+1e-3 {
				t.Errorf("%s: held-out loss %v, the CPU has %v", device, got, want)
			}
		}
	})
	t.Run("two workers, two GPUs", func(t *testing.T) {
		dir := t.TempDir()
		args := append([]string{"run", "--json", "--dir", dir}, small(t, "run.workers=2", "run.rounds=3", "sync.inner_steps=2", "inner.warmup=1", "run.eval_tokens=128")...)
		wantWords(t, gpu.with(t).loco(true, args...), `"complete": true`, `"digest_equal": true`)
		for k, device := range []string{"cuda:0 ", "cuda:1 "} {
			text, err := os.ReadFile(filepath.Join(dir, "worker-"+strconv.Itoa(k), process.LogFile))
			if err != nil {
				t.Fatal(err)
			}
			wantWords(t, string(text), `"computes on","device":"`+device)
		}
		wantWords(t, gpu.with(t).loco(true, "eval", "--tokens", "256", dir), "held-out loss")
	})
	t.Run("lost in the middle", func(t *testing.T) {
		args := tinyWorker(t, "inner.device=cuda:0", "checkpoint.every=0")
		out := gpu.with(t, "EMULATOR_LOSE=500").loco(false, args...)
		wantWords(t, out, "the device broke in the middle of the run", "device 0", "start the worker again", `"event":"checkpoint"`)
		round := regexp.MustCompile(`"event":"checkpoint".*"round":([0-9]+)`).FindStringSubmatch(out)
		if round == nil || round[1] == "0" || round[1] == "4" {
			t.Fatalf("the device was not lost in the middle, but at round %v: change the number of launches\n%s", round, out)
		}
		wantWords(t, gpu.with(t).loco(true, args...), `"complete":true`, `"round":4`)
	})
}
