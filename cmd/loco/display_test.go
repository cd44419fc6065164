package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"loco/trainer"
	"loco/worker"
	"loco/worker/config"
	"loco/worker/process"
)

// The summary is what the workers said, over all of them and all sessions.
func TestSummary(t *testing.T) {
	cfg := config.Default()
	b := newBoard(&cfg)
	std := 0.5
	for _, e := range []any{
		&process.AddressEvent{Worker: 1, Addrs: []string{"/b"}}, &process.AddressEvent{Worker: 0, Addrs: []string{"/a"}},
		&trainer.StepEvent{Worker: 0, Step: 1, Tokens: 10, Loss: 3}, &trainer.StepEvent{Worker: 0, Step: 2, Tokens: 20, Loss: 1},
		&trainer.StepEvent{Worker: 1, Step: 1, Tokens: 10, Loss: 5},
	} {
		b.add(e)
	}
	if loss := b.loss(); loss != 3.5 { // (2 + 5) / 2
		t.Errorf("the loss is %v, want the mean over workers of their steps since the round, 3.5", loss)
	}
	for _, e := range []any{
		&trainer.RoundEvent{Worker: 0, Round: 1, Tokens: 20, TrainLoss: 2, Group: 2, BytesSent: 5, BytesReceived: 6, ReplicaStd: &std},
		&trainer.RoundEvent{Worker: 1, Round: 1, Tokens: 10, TrainLoss: 4, Group: 2, BytesSent: 7, BytesReceived: 8},
		&trainer.EvalEvent{Worker: 0, Round: 1, HeldoutLoss: 9}, &trainer.EvalEvent{Worker: 0, Round: 2, HeldoutLoss: 1}, &trainer.EvalEvent{Worker: 1, Round: 2, HeldoutLoss: 2},
		&process.CheckpointEvent{Worker: 1, Path: "x"}, &worker.PeersEvent{Worker: 1, Live: 2, Ready: 1},
		&process.ResultEvent{Worker: 1, Complete: true, Round: 2, Tokens: 30, SessionTokens: 30, Digest: "d", Seconds: 4, InnerSeconds: 1, Checkpoint: "c1"},
		&process.ResultEvent{Worker: 0, Round: 1, Tokens: 20, SessionTokens: 20, Digest: "d", Seconds: 4, InnerSeconds: 3, Checkpoint: "c0"},
	} {
		b.add(e)
	}
	if loss := b.loss(); loss != 3 {
		t.Errorf("the loss is %v, want that of the rounds, 3", loss)
	}
	s := b.summarise(77, 10, &summary{Seconds: 5, BytesSent: 100, BytesReceived: 200})
	if !s.Complete || s.Rounds != 2 || s.Tokens != 50 || s.TokensPerSecond != 5 || s.BytesSent != 112 || s.BytesReceived != 214 || s.Seconds != 15 || s.Parameters != 77 ||
		!s.DigestEqual || s.Digest != "d" || s.Checkpoint != "c0" || s.ComputeUtilisation != 0.5 || s.ReplicaStd != 0.5 || s.HeldoutLoss == nil || *s.HeldoutLoss != 1.5 || !(*s.Perplexity > 4.48 && *s.Perplexity < 4.49) {
		t.Errorf("%+v", s)
	}
	b.add(&process.ResultEvent{Worker: 1, Complete: true, Round: 2, Digest: "other"})
	if s := b.summarise(77, 10, nil); s.DigestEqual {
		t.Error("workers with two digests are equal")
	}
	dir := t.TempDir()
	if err := writeJSON(filepath.Join(dir, summaryFile), s); err != nil {
		t.Fatal(err)
	}
	if back, err := readSummary(dir); err != nil || *back.HeldoutLoss != 1.5 || back.Digest != "d" {
		t.Errorf("read back: %+v, %v", back, err)
	}
	if err := os.WriteFile(filepath.Join(dir, summaryFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSummary(dir); err == nil || !strings.Contains(err.Error(), "delete it") {
		t.Errorf("a damaged summary: %v", err)
	}
}

// What is no terminal gets lines: not one for each round, and every thing that a person should know.
func TestPlainLines(t *testing.T) {
	cfg := config.Default() // of 180 rounds
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	b := newBoard(&cfg)
	b.only = true
	d := newDisplay(b, out)
	show := func(events ...any) (lines string) {
		t.Helper()
		before, _ := os.ReadFile(out.Name())
		for _, e := range events {
			b.add(e)
			d.show(e)
		}
		after, _ := os.ReadFile(out.Name())
		return string(after[len(before):])
	}
	var rounds []any
	for r := uint64(1); r <= 20; r++ {
		rounds = append(rounds, &trainer.StepEvent{Worker: 0, Step: 20 * r, Tokens: 1000 * r, Loss: 2}, &trainer.RoundEvent{Worker: 0, Round: r, Tokens: 1000 * r, TrainLoss: 2, Group: 3, BytesSent: 1e6})
	}
	if lines := show(rounds...); strings.Count(lines, "\n") != 2 || !strings.Contains(lines, "round 9/180  loss 2.000  ") || !strings.Contains(lines, "3 workers  9 MB exchanged") || !strings.Contains(lines, " left\n") || !strings.Contains(lines, "round 18/180") {
		t.Errorf("lines of 20 rounds:\n%s", lines)
	}
	d.spoke = time.Now().Add(-time.Hour)
	if lines := show(&trainer.RoundEvent{Worker: 0, Round: 21, TrainLoss: 2, Group: 3}); !strings.Contains(lines, "round 21/180") {
		t.Errorf("after an hour of silence: %s", lines)
	}
	for what, c := range map[string]struct {
		event any
		want  string
	}{
		"peers":        {&worker.PeersEvent{Worker: 0, Ready: 1}, "1 of 4 workers are ready"},
		"all peers":    {&worker.PeersEvent{Worker: 0, Ready: 4}, ""},
		"a resync":     {&trainer.ResyncEvent{Worker: 2, Round: 7, Why: "because", LostSteps: 3}, "worker 2 took over the others' state at round 7 (because); 3 inner steps were lost\n"},
		"an old round": {&trainer.RoundEvent{Worker: 1, Round: 3, Group: 1}, ""},
	} {
		if lines := show(c.event); !strings.Contains(lines, c.want) || c.want == "" && lines != "" {
			t.Errorf("%s: %q, want %q", what, lines, c.want)
		}
	}
	late := func(by int, is bool) string { return show(&worker.LateEvent{Worker: by, Who: 3, Late: is}) }
	if a, b, c, d := late(0, true), late(1, true), late(0, false), late(1, false); !strings.Contains(a, "worker 3 is late") || b != "" || c != "" || !strings.Contains(d, "worker 3 is in time again") {
		t.Errorf("%q %q %q %q", a, b, c, d)
	}
	d.close()
}

func TestWords(t *testing.T) {
	if got := plural(1, "worker") + plural(2, "worker"); got != "1 worker2 workers" {
		t.Error(got)
	}
	if got := formatSpan(61499 * time.Millisecond); got != "1m1s" {
		t.Error(got)
	}
	if got := indent("\na\nb\n"); got != "  | a\n  | b" {
		t.Errorf("%q", got)
	}
}
