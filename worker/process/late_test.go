package process

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"loco/gossip/exchange"
	"loco/mesh"
	"loco/worker/config"
)

// A late worker is named once, in the log, the record and the metrics, until
// it is in time again.
func TestLateWorkersAreNamedOnce(t *testing.T) {
	cfg := config.Default()
	spec, err := NewSpec(&cfg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := newMeters(spec, 0, "cpu", 1, func() []mesh.Member { return nil })
	var text bytes.Buffer
	var events []*LateEvent
	l := lateWatch{worker: 1, meters: m, log: slog.New(slog.NewTextHandler(&text, nil)), report: func(e any) {
		events = append(events, e.(*LateEvent))
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
	if len(events) != 2 || *events[0] != (LateEvent{"late", 1, 5, 3, true, 2}) || *events[1] != (LateEvent{"late", 1, 6, 2, true, 0}) {
		t.Fatalf("events %+v", events)
	}
	if got := strings.Count(text.String(), "is late in most rounds"); got != 2 {
		t.Errorf("named %d times in the log:\n%s", got, text.String())
	}
	l.see(8, []exchange.Late{{Worker: 2}})
	if len(events) != 3 || events[2].Late || events[2].Who != 3 {
		t.Errorf("events %+v", events)
	}
	if n := series(); n != 1 {
		t.Errorf("%d workers are late in the metrics, want 1", n)
	}
}
