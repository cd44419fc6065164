package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"loco/trainer"
	"loco/worker/config"
	"loco/worker/process"
)

// captured returns what f prints.
func captured(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = w, w
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		read <- string(text)
	}()
	func() {
		defer func() { os.Stdout, os.Stderr = stdout, stderr }()
		f()
	}()
	w.Close()
	return <-read
}

// The events of a worker that a person started.
var lifeOfAWorker = []any{
	&process.DeviceEvent{Worker: 1, Device: "cpu (of a test)", Why: "no GPU"},
	&process.TakenEvent{Worker: 1, By: "another", Patience: 15 * time.Second},
	&process.AddressEvent{Event: "address", Worker: 1, Addrs: []string{"/ip4/192.0.2.1/tcp/4001/p2p/x"}, Metrics: "127.0.0.1:9"},
	&trainer.StepEvent{Event: "step", Worker: 1, Step: 20, Tokens: 100, Loss: 2},
	&trainer.RoundEvent{Event: "round", Worker: 1, Round: 1, Tokens: 100, TrainLoss: 2, Group: 2},
	&process.ResultEvent{Event: "result", Worker: 1, Round: 1, Tokens: 100, SessionTokens: 100, Seconds: 2, InnerSeconds: 1, Digest: "d", Checkpoint: "ckpt"},
}

// A person is told what a worker does, and finds a summary of all workers of the folder.
func TestAPersonWatches(t *testing.T) {
	cfg, dir := config.Default(), t.TempDir()
	spec, err := process.NewSpec(&cfg, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "worker-0"), 0o755); err != nil {
		t.Fatal(err)
	}
	other := `{"event":"round","worker":0,"round":1,"tokens":50,"group":2,"bytes_sent":7}` + "\n" + `{"event":"result","worker":0,"round":1,"tokens":50,"session_seconds":4,"session_tokens":50,"digest":"d","checkpoint":"c0"}` + "\n" + `{"event":"rou`
	if err := os.WriteFile(filepath.Join(dir, "worker-0", process.RecordFile), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	text := captured(t, func() {
		v := newWatcher(spec, &cfg, dir)
		for _, e := range lifeOfAWorker {
			v.show(e)
		}
	})
	for _, want := range []string{
		"computing on the CPU: no GPU\n", "worker 1 is taken by another; if that is this worker before it was started again, the others notice its end within 15s: trying until then\n",
		"worker 1 of \"tiny\" on cpu (of a test), metrics on http://127.0.0.1:9/metrics\nothers join with:\n  loco worker run.toml --join /ip4/192.0.2.1/tcp/4001/p2p/x\n",
		"worker 1 ended at round 1 of 180; checkpoint: ckpt\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	s, err := readSummary(dir)
	if err != nil || s.Tokens != 50 || s.BytesSent != 7 || s.Checkpoint != "c0" || s.Seconds != 4 || s.TokensPerSecond != 12.5 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A supervisor is given lines of JSON alone; the first worker tells why it computes on the CPU.
func TestASupervisorWatches(t *testing.T) {
	text := captured(t, func() {
		for _, e := range lifeOfAWorker {
			printJSON(e)
		}
	})
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != len(lifeOfAWorker)-2 {
		t.Fatalf("%d lines:\n%s", len(lines), text)
	}
	for i, line := range lines {
		want, err := json.Marshal(lifeOfAWorker[i+2])
		if err != nil || line != string(want) {
			t.Errorf("%s, want %s", line, want)
		}
	}
	if text := captured(t, func() { printJSON(&process.DeviceEvent{Worker: 0, Why: "no GPU"}) }); text != "computing on the CPU: no GPU\n" {
		t.Errorf("%q", text)
	}
	if text := captured(t, func() { printJSON(&process.DeviceEvent{Worker: 0}) }); text != "" {
		t.Errorf("%q", text)
	}
}
