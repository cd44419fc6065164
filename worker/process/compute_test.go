package process

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
	"loco/kernels/cuda/driver"
	"loco/trainer"
	"loco/trainer/model"
	"loco/worker/config"
)

// fakeGPU is the CPU under the name of a GPU.
type fakeGPU struct {
	kernels.Device
	free int64
	err  error
}

func (g *fakeGPU) Err() error                { return g.err }
func (g *fakeGPU) GPU() (driver.Info, error) { return driver.Info{Free: g.free}, g.err }
func (g *fakeGPU) WithoutBlas() error        { return errors.New("no cuBLAS here") }

func newFakeGPU(t *testing.T, free int64, err error) *fakeGPU {
	t.Helper()
	d, e := cpu.New(1, kernels.FP32)
	if e != nil {
		t.Fatal(e)
	}
	t.Cleanup(func() { d.Close() })
	return &fakeGPU{d, free, err}
}

// The CPU is opened as the configuration says.
func TestComputeOnTheCPU(t *testing.T) {
	for set, want := range map[string]string{
		"inner.device=cpu inner.threads=1 inner.precision=fp32":  "1 thread, ",
		"inner.device=auto inner.threads=3 inner.precision=fp32": "3 threads, ",
	} {
		s := loadSpec(t, strings.Fields(set)...)
		c, err := openCompute(s.cfg.Inner, 0)
		if err != nil {
			t.Fatal(err)
		}
		if c.kind() != "cpu" || !strings.Contains(c.name(), want) || !strings.Contains(c.name(), "fp32") || len(c.devices) != 1 || c.host != nil {
			t.Errorf("%s: %s %q", set, c.kind(), c.name())
		}
		if err := s.fits(c); err != nil {
			t.Error(err)
		}
		var outer trainer.Config
		if err := s.placeOuter(&outer, c); err != nil || outer.Host != nil || outer.OuterOnHost {
			t.Errorf("%+v, %v", outer, err)
		}
		if err := s.rehearse(c, nil); err != nil {
			t.Error(err)
		}
		replicas, err := loadSpec(t, "model.width=8", "model.heads=2", "model.ffn=8", "model.layers=1", "model.context=8", "inner.batch=4", "inner.micro_batch=2").newReplicas(c)
		if err != nil || len(replicas) != 1 || replicas[0].Model.MicroBatch() != 2 {
			t.Fatalf("%d replicas, %v", len(replicas), err)
		}
		if rate := c.peakRate(replicas[0].Model); !(rate > 1e6 && rate < 1e14) {
			t.Errorf("%v operations a second", rate)
		}
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := openCompute(config.Inner{Device: config.CPU, Threads: 1, Precision: "fp8"}, 0); err == nil {
		t.Error("a precision that does not exist is opened")
	}
	if _, err := openCompute(config.Inner{Device: config.CPU, Threads: -1, Precision: "fp32"}, 0); err == nil {
		t.Error("fewer threads than none are opened")
	}
}

// A GPU that is asked for and is not there is named.
func TestGPUsThatAreNotThere(t *testing.T) {
	broken := errors.New("too old to train")
	list := []driver.Info{{Index: 0}, {Index: 1, Reason: broken}}
	in := loadSpec(t).cfg.Inner
	if _, err := openGPUs(in, list, []int{0, 7}); err == nil || !strings.Contains(err.Error(), "there is no cuda:7 on this machine: it has 2 GPUs") {
		t.Error(err)
	}
	if _, err := openGPUs(in, list, []int{0, 1}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := openGPUs(in, list, []int{0}); err == nil {
		t.Error("a GPU of another machine is opened")
	}
	for _, set := range []string{"inner.device=cuda:5", "inner.devices=5,6"} {
		if _, err := openCompute(loadSpec(t, set, "inner.batch=8").cfg.Inner, 0); err == nil {
			t.Errorf("%s is opened", set)
		}
	}
}

// A model that a GPU has no room for is refused, with what to change.
func TestMemoryOfGPUs(t *testing.T) {
	s := loadSpec(t, "inner.batch=8", "inner.precision=fp32")
	need := s.gpuMemory(s.model, 8)
	plain, saved := s.model, s.model
	saved.Checkpoint = true
	if want := plain.Memory(8); need != want.Total()-want.Packed {
		t.Errorf("fp32 needs %d bytes", need)
	}
	if half := loadSpec(t, "inner.batch=8", "inner.precision=bf16"); half.gpuMemory(half.model, 8) != plain.Memory(8).Halves() {
		t.Error("bf16 needs other bytes than its halves")
	}
	if err := s.fits(&compute{gpus: []driver.Info{{Free: need}}}); err != nil {
		t.Errorf("what fits exactly is refused: %v", err)
	}
	for _, c := range []struct {
		free int64
		want string
	}{
		{need - 1, "set inner.micro_batch = "},
		{s.gpuMemory(plain, 4), "inner.micro_batch = 4"},
		{s.gpuMemory(plain, 1), "inner.micro_batch = 1"},
		{s.gpuMemory(saved, 1), "inner.micro_batch = 1 and model.checkpointing = true"},
		{s.gpuMemory(saved, 1) - 1, "even with inner.micro_batch = 1 and model.checkpointing = true"},
	} {
		var usage *UsageError
		if got := s.lessMemory(c.free + gpuSpare); !strings.Contains(got, c.want) {
			if c.free != need-1 {
				t.Errorf("with %d bytes: %s, want %s", c.free, got, c.want)
			}
		}
		if c.free >= need {
			continue
		}
		err := s.fits(&compute{gpus: []driver.Info{{Free: need}, {Index: 1, Name: "small", Free: c.free, Total: need}}})
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), "on cuda:1 (small), which has "+FormatBytes(uint64(c.free))+" of "+FormatBytes(uint64(need))+" free") || !strings.Contains(err.Error(), FormatBytes(uint64(need))) {
			t.Errorf("with %d bytes: %v", c.free, err)
		}
	}
	two := loadSpec(t, "inner.batch=8", "inner.devices=0,1", "inner.precision=fp32")
	if got := two.lessMemory(two.gpuMemory(two.model, 2) + gpuSpare); !strings.Contains(got, "inner.micro_batch = 2") {
		t.Errorf("of two devices: %s", got)
	}
}

// The outer state is on the GPU where it has room for all of its vectors.
func TestTheOuterStatesPlace(t *testing.T) {
	s := loadSpec(t)
	row, err := s.cfg.Row()
	if err != nil {
		t.Fatal(err)
	}
	outer := 4 * int64(s.Parameters()) * int64(len(row.Vectors))
	host, err := cpu.New(1, kernels.FP32)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	for _, c := range []struct {
		free   int64
		onHost bool
	}{{outer + gpuSpare, false}, {outer + gpuSpare - 1, true}} {
		var got trainer.Config
		err := s.placeOuter(&got, &compute{devices: []kernels.Device{newFakeGPU(t, c.free, nil)}, gpus: []driver.Info{{}}, host: host})
		if err != nil || got.OuterOnHost != c.onHost || got.Host != trainer.Device(host) {
			t.Errorf("with %d bytes: %+v, %v", c.free, got, err)
		}
	}
	lost := errors.New("lost")
	if err := s.placeOuter(new(trainer.Config), &compute{devices: []kernels.Device{newFakeGPU(t, 0, lost)}, gpus: []driver.Info{{}}}); !errors.Is(err, lost) {
		t.Error(err)
	}
}

// A GPU tries a step before the run, and says what is wrong with it.
func TestRehearsal(t *testing.T) {
	s := loadSpec(t, "model.width=8", "model.heads=2", "model.ffn=8", "model.layers=1", "model.context=8")
	for _, c := range []struct {
		err  error
		want string
	}{{nil, ""}, {&driver.Error{Code: 2}, "model.checkpointing"}, {driver.ErrStuck, "start the worker again"}, {errors.New("else"), "try a step before the run: else"}} {
		g := newFakeGPU(t, 0, c.err)
		m, err := model.New(g, s.model, 1)
		if err != nil {
			t.Fatal(err)
		}
		err = s.rehearse(&compute{gpus: []driver.Info{{}}}, []trainer.Replica{{Device: g, Model: m}})
		if (err == nil) != (c.want == "") || err != nil && !(strings.Contains(err.Error(), c.want) && errors.Is(err, c.err)) {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}

// The log says what a worker computes on.
func TestComputeInTheLog(t *testing.T) {
	var text bytes.Buffer
	c := &compute{devices: []kernels.Device{newFakeGPU(t, 0, nil), newFakeGPU(t, 0, nil)}, gpus: []driver.Info{{}, {}}, why: "because"}
	c.tell(slog.New(slog.NewTextHandler(&text, nil)))
	for _, want := range []string{"computes on", " and cpu (", "why=because", "no cuBLAS here"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	if c.kind() != "cuda" {
		t.Error(c.kind())
	}
	var shown bytes.Buffer
	if err := ShowDevices(&shown); err != nil || !strings.Contains(shown.String(), "cpu (") {
		t.Errorf("%v: %s", err, shown.String())
	}
}

// What a run needs follows from its parameters, strategy and codecs.
func TestNeeds(t *testing.T) {
	for _, c := range []struct {
		sets            string
		rounds          uint64
		vectors, passes float64 // of the outer state; bytes that a worker sends for each parameter
	}{
		{"sync.strategy=diloco sync.codec=fp32 run.workers=4", 180, 2, 2 * 4 * 3 / 4.},
		{"sync.strategy=diloco sync.codec=int8 run.workers=4", 180, 2, 2 * 1.016 * 3 / 4.},
		{"sync.strategy=ddp sync.codec=fp32 run.workers=2", 3600, 0, 4},
		{"sync.strategy=noloco sync.codec=int8 sync.state_codec=bf16", 180, 3, 1.016 + 2},
		{"sync.strategy=noloco sync.codec=fp32", 180, 3, 4},
		{"sync.strategy=alone", 180, 0, 0},
	} {
		s := loadSpec(t, strings.Fields(c.sets)...)
		n, err := NeedsOf(s.cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := float64(s.Parameters())
		encoded := 4.
		if s.cfg.Sync.Codec == "int8" {
			encoded = 1.016
		}
		for what, v := range map[string][2]float64{
			"parameters": {float64(n.Parameters), p}, "tokens": {float64(n.Tokens), float64(s.cfg.TotalTokens())}, "rounds": {float64(n.RoundsExchange), float64(c.rounds)},
			"operations": {n.FLOPs, s.model.FLOPsPerToken(128) * float64(n.Tokens)}, "checkpoint": {float64(n.Checkpoint), 16 * p}, "device": {float64(n.MemoryDevice), float64(s.model.Memory(8).Total())},
			"bytes in a round": {float64(n.BytesPerRound), c.passes * p}, "host": {float64(n.MemoryHost), 4*p*(6+c.vectors) + 2*encoded*p},
		} {
			if !(v[0] >= 0.995*v[1] && v[0] <= 1.005*v[1]) {
				t.Errorf("%s: %s is %v, want %v", c.sets, what, v[0], v[1])
			}
		}
	}
	bad := *loadSpec(t).cfg
	bad.Model.Heads = 5
	var usage *UsageError
	if _, err := NeedsOf(&bad); !errors.As(err, &usage) {
		t.Error(fmt.Sprint(err))
	}
	if _, err := NewSpec(&bad, ""); !errors.As(err, &usage) {
		t.Error(fmt.Sprint(err))
	}
	bad = *loadSpec(t).cfg
	bad.Sync.Codec = "none"
	if _, err := NewSpec(&bad, ""); !errors.As(err, &usage) || !strings.Contains(err.Error(), "none") {
		t.Error(fmt.Sprint(err))
	}
	bad = *loadSpec(t).cfg
	bad.Sync.StateCodec = "none"
	if _, err := NeedsOf(&bad); !errors.As(err, &usage) || !strings.Contains(err.Error(), "none") {
		t.Error(fmt.Sprint(err))
	}
}
