package worker

import (
	"context"

	"loco/gossip"
	"loco/gossip/exchange"
	"loco/mesh"
	"loco/trainer"
	"loco/trainer/strategy"
)

// averager is what the all-reduce and the pair exchange have in common.
type averager interface {
	trainer.Averager
	FetchState(ctx context.Context, want exchange.Want) (exchange.Fetched, error)
	Close() error
}

// exchangeConfig is the exchange's configuration, with what only a worker knows.
func (w *Worker) exchangeConfig() gossip.Config {
	g := w.cfg.Gossip
	// Lane 0 is everybody: a stage of a pipeline averages in a lane of its own.
	g.Mesh, g.Worker, g.Logger = mesh.Lane(w.mesh, 0), w.cfg.Number, w.hooks.Log
	g.Part, g.Unequal = w.strategy.Main().Part, !w.strategy.Equal
	g.State, g.Head, g.StateRoot, g.StateSent = w.sharer.share, w.sharer.head, w.strategy.Root, w.hooks.Sent
	if !w.strategy.Moments { // else they are part of the state
		g.Moments = w.sharer.moments
	}
	if g.MaxState == 0 {
		g.MaxState = 64 + 4*int64(2+max(2, len(w.strategy.Vectors)))*int64(w.length) + 1<<16 // and their names
	}
	return g
}

// openExchange makes the averager of the run's strategy.
func (w *Worker) openExchange() (err error) {
	g := w.exchangeConfig()
	w.sharer.wait = g.Deadline
	w.late = lateWatch{worker: w.cfg.Number, log: w.hooks.Log, report: w.hooks.Report}
	if with, _ := w.strategy.With(); with == strategy.Pair {
		w.averager, err = gossip.NewPairs(g)
	} else {
		w.averager, err = gossip.NewAllReduce(g)
	}
	return err
}

// exchanged is the trainer's Exchanged hook: it reports and logs an exchange.
func (w *Worker) exchanged(round uint64, part exchange.Part, out exchange.Outcome, err error) {
	log := w.hooks.Log
	w.hooks.Report(&Exchanged{round, part, out, err})
	if err == nil && part == exchange.Delta && len(out.Members) == 1 && w.cfg.Workers > 1 {
		log.Warn("nobody else was in the mean of this round", "round", round+1)
	}
	if out.Torn {
		log.Warn("went on alone in doubt: the partner may have averaged", "round", round+1, "part", part)
	}
	for _, r := range out.Rejected {
		log.Warn("left out of a round", "round", round+1, "who", r)
	}
	if err == nil && !out.Behind && part == exchange.Delta {
		w.late.see(round+1, out.Late)
	}
}
