package main

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"loco/gossip/exchange"
	"loco/mesh"
	"loco/trainer"
	"loco/worker/config"
)

// A late worker is named once, in the log, the record, the metrics and the summary, until
// it is in time again.
func TestLateWorkersAreNamedOnce(t *testing.T) {
	cfg := config.Default()
	spec, err := newSpec(&cfg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := newMeters(spec, 0, "cpu", 1, func() []mesh.Member { return nil })
	var text bytes.Buffer
	b := newBoard(&cfg)
	var events []*lateEvent
	l := lateWatch{worker: 1, meters: m, log: slog.New(slog.NewTextHandler(&text, nil)), report: func(e any) {
		events = append(events, e.(*lateEvent))
		b.add(e)
	}}
	series := func() int {
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "loco_late_worker_seconds" {
				return len(f.GetMetric())
			}
		}
		return 0
	}
	three := exchange.Late{Worker: 3, By: 2 * time.Second}
	l.see(4, nil)
	l.see(5, []exchange.Late{three})
	l.see(6, []exchange.Late{{Worker: 2}, three})
	l.see(7, []exchange.Late{{Worker: 2}, three})
	if len(events) != 2 || *events[0] != (lateEvent{"late", 1, 5, 3, true, 2}) || *events[1] != (lateEvent{"late", 1, 6, 2, true, 0}) {
		t.Fatalf("events %+v", events)
	}
	if s := b.summarise(1, 1, nil); !slices.Equal(s.LateWorkers, []int{2, 3}) {
		t.Errorf("the summary names %v", s.LateWorkers)
	}
	if got := strings.Count(text.String(), "is late in most rounds"); got != 2 {
		t.Errorf("named %d times in the log:\n%s", got, text.String())
	}
	l.see(8, []exchange.Late{{Worker: 2}})
	if s := b.summarise(1, 1, nil); len(events) != 3 || events[2].Late || events[2].Who != 3 || !slices.Equal(s.LateWorkers, []int{2}) {
		t.Errorf("events %+v, the summary names %v", events, s.LateWorkers)
	}
	if n := series(); n != 1 {
		t.Errorf("%d workers are late in the metrics, want 1", n)
	}
}

// The summary counts lost tokens over rounds, resyncs and sessions, and who is late in the
// last session only.
func TestSummaryCountsWhatWasTooLate(t *testing.T) {
	cfg := config.Default()
	path := filepath.Join(t.TempDir(), recordFile)
	r, err := openRecord(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []any{
		&trainer.RoundEvent{Event: "round", Round: 1, LostTokens: 7},
		&lateEvent{Event: "late", Round: 1, Who: 2, Late: true},
		&trainer.ResyncEvent{Event: "resync", Round: 2, LostTokens: 30},
		&resultEvent{Event: "result", Round: 2, Tokens: 100},
		&trainer.RoundEvent{Event: "round", Round: 3, LostTokens: 200},
		&lateEvent{Event: "late", Round: 3, Who: 1, Late: true},
		&resultEvent{Event: "result", Round: 3, Tokens: 400},
	} {
		if err := r.write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	b := newBoard(&cfg)
	if err := b.addRecord(path); err != nil {
		t.Fatal(err)
	}
	if s := b.summarise(1, 1, &summary{LostTokens: 1000}); s.LostTokens != 1237 || !slices.Equal(s.LateWorkers, []int{1}) {
		t.Errorf("%d tokens lost, %v late", s.LostTokens, s.LateWorkers)
	}
}
