package worker

import (
	"log/slog"

	"loco/gossip/exchange"
)

// lateWatch names late workers once when they become so, and once when they are not any
// more.
type lateWatch struct {
	worker int
	log    *slog.Logger
	report func(event any)
	known  map[int]bool
}

// see takes in which workers are late after a round.
func (l *lateWatch) see(round uint64, late []exchange.Late) {
	now := map[int]bool{}
	for _, w := range late {
		now[w.Worker] = true
		if by := w.By.Seconds(); !l.known[w.Worker] {
			l.log.Warn("a worker is late in most rounds; it is not waited for but now and then", "who", w.Worker, "round", round, "late_seconds", by,
				"remedy", "sync.inner_time lets it train less in a round, sync.slow_cycle contribute less often")
			l.report(&LateEvent{Event: "late", Worker: l.worker, Round: round, Who: w.Worker, Late: true, By: by})
		}
	}
	for who := range l.known {
		if !now[who] {
			l.log.Info("a worker is in time again", "who", who, "round", round)
			l.report(&LateEvent{Event: "late", Worker: l.worker, Round: round, Who: who})
		}
	}
	l.known = now
}

// tooLate says in the log, once when it changes, that this worker's own steps do not get
// into the means.
type tooLate struct{ now bool }

func (t *tooLate) see(log *slog.Logger, round, lost, carried uint64) {
	is := lost+carried > 0
	if is && !t.now {
		log.Warn("this worker came too late for the round", "round", round, "lost_tokens", lost, "carried_tokens", carried)
	}
	t.now = is
}
