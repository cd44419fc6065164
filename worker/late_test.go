package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"loco/gossip/exchange"
)

// A late worker is named once, in the log and in the events, until it is in time again.
func TestLateWorkersAreNamedOnce(t *testing.T) {
	var text bytes.Buffer
	var events []*LateEvent
	l := lateWatch{worker: 1, log: slog.New(slog.NewTextHandler(&text, nil)), report: func(e any) { events = append(events, e.(*LateEvent)) }}
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
	if !strings.Contains(text.String(), "is in time again\" who=3 round=8") {
		t.Errorf("the log is\n%s", text.String())
	}
	if len(events) != 3 || *events[2] != (LateEvent{"late", 1, 8, 3, false, 0}) {
		t.Errorf("events %+v", events)
	}
}
