package worker

import (
	"context"
	"log/slog"

	"loco/gossip"
	"loco/gossip/exchange"
	"loco/trainer"
)

// averager is what the all-reduce and the pair exchange have in common.
type averager interface {
	trainer.Averager
	FetchState(ctx context.Context, want exchange.Want) (exchange.Fetched, error)
	Over(round uint64, tokens float64) bool
	Awaited(round uint64) bool
	Close() error
}

// peers is the averager of the run's strategy, whose exchanges are reported and logged.
type peers struct {
	averager
	late    lateWatch
	planned int // workers
	report  func(event any)
	log     *slog.Logger
}

// openExchange makes the averager of the run's strategy.
func (w *Worker) openExchange() (err error) {
	g := w.cfg.Gossip
	g.Mesh, g.Worker, g.Logger = w.mesh, w.cfg.Number, w.hooks.Log
	w.sharer.wait = g.Deadline
	g.State, g.Head, g.StateRoot, g.StateSent = w.sharer.share, w.sharer.head, stateRoot, w.hooks.Sent
	if w.cfg.Trainer.Strategy != ddp { // whose moments are part of the state
		g.Moments = w.sharer.moments
	}
	if g.MaxState == 0 {
		g.MaxState = 64 + 4*4*int64(w.length) + 1<<16 // four vectors and their names
	}
	p := &peers{planned: w.cfg.Workers, report: w.hooks.Report, log: w.hooks.Log}
	p.late = lateWatch{worker: w.cfg.Number, log: w.hooks.Log, report: w.hooks.Report}
	if w.cfg.Trainer.Strategy == noloco {
		p.averager, err = gossip.NewPairs(g)
	} else {
		p.averager, err = gossip.NewAllReduce(g)
	}
	if err == nil {
		w.peers = p
	}
	return err
}

// Average is the averager's, reported and logged.
func (p *peers) Average(ctx context.Context, round uint64, part exchange.Part, vec exchange.Vector, weight float64, from exchange.Base) (exchange.Outcome, error) {
	out, err := p.averager.Average(ctx, round, part, vec, weight, from)
	p.report(&Exchanged{round, part, out, err})
	if err == nil && part == exchange.Delta && len(out.Members) == 1 && p.planned > 1 {
		p.log.Warn("nobody else was in the mean of this round", "round", round+1)
	}
	if out.Torn {
		p.log.Warn("went on alone in doubt: the partner may have averaged", "round", round+1, "part", part)
	}
	for _, r := range out.Rejected {
		p.log.Warn("left out of a round", "round", round+1, "who", r)
	}
	if err == nil && !out.Behind && part == exchange.Delta {
		p.late.see(round+1, out.Late)
	}
	return out, err
}
