package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"loco/trainer"
	"loco/worker"
	"loco/worker/config"
	"loco/worker/process"
)

// The summary names the workers that are late in most rounds when it is written, and no others.
func TestSummaryNamesLateWorkers(t *testing.T) {
	cfg := config.Default()
	b := newBoard(&cfg)
	for _, e := range []*worker.LateEvent{{Worker: 1, Round: 5, Who: 3, Late: true, By: 2}, {Worker: 1, Round: 6, Who: 2, Late: true}} {
		b.add(e)
	}
	if s := b.summarise(1, 1, nil); !slices.Equal(s.LateWorkers, []int{2, 3}) {
		t.Errorf("the summary names %v, want 2 and 3", s.LateWorkers)
	}
	b.add(&worker.LateEvent{Worker: 1, Round: 8, Who: 3})
	if s := b.summarise(1, 1, nil); !slices.Equal(s.LateWorkers, []int{2}) {
		t.Errorf("the summary names %v, want 2", s.LateWorkers)
	}
}

// The summary counts lost tokens over rounds, resyncs and sessions, and names the
// workers that are late in the last session only.
func TestSummaryCountsWhatWasTooLate(t *testing.T) {
	cfg := config.Default()
	path := filepath.Join(t.TempDir(), process.RecordFile)
	var record bytes.Buffer
	lines := json.NewEncoder(&record)
	for _, e := range []any{
		&trainer.RoundEvent{Event: "round", Round: 1, LostTokens: 7},
		&worker.LateEvent{Event: "late", Round: 1, Who: 2, Late: true},
		&trainer.ResyncEvent{Event: "resync", Round: 2, LostTokens: 30},
		&process.ResultEvent{Event: "result", Round: 2, Tokens: 100},
		&trainer.RoundEvent{Event: "round", Round: 3, LostTokens: 200},
		&worker.LateEvent{Event: "late", Round: 3, Who: 1, Late: true},
		&process.ResultEvent{Event: "result", Round: 3, Tokens: 400},
	} {
		if err := lines.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, record.Bytes(), 0o600); err != nil {
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
