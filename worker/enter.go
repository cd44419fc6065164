package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"loco/mesh"
	"loco/trainer"
)

const (
	departWait = 15 * time.Second // for workers that are in their last round
	fetchPause = time.Second
)

// Joining is why a worker that enters takes over the others' state.
const Joining = "joined a run under way"

// Enter brings this worker into the run: into one that is under way, whose state it takes
// over, or together with the others that start. When ctx ends it stops waiting: then a worker
// that would have to fetch a state returns an error, and one that only waits for others
// begins, so that its trainer takes in the stop.
func (w *Worker) Enter(ctx context.Context) error {
	var joined *trainer.ResyncEvent
	var err error
	w.at()
	// Of the workers that start together none has begun before all of them are ready.
	underWay := w.underWay()
	if w.averager != nil {
		if ahead := w.ahead(); ahead != nil {
			if joined, err = w.catchUp(ctx, ahead); err != nil {
				return err
			}
		}
	}
	w.at()
	if w.hooks.Begin != nil {
		if err := w.hooks.Begin(w.status.Round); err != nil {
			return err
		}
	}
	w.status.Ready = true
	if joined != nil {
		w.report(joined)
	}
	w.sharer.trainer.Store(w.trainer)
	w.tell()
	if w.averager != nil && !underWay {
		w.gather(ctx)
	}
	w.status.Begun = true
	w.tell()
	return nil
}

// underWay says whether some member has begun to train.
func (w *Worker) underWay() bool {
	members, _ := w.mesh.View()
	return slices.ContainsFunc(members, func(m mesh.Member) bool {
		return m.ID != w.mesh.Self() && m.State <= mesh.Suspect && m.Begun
	})
}

// ahead is a member of a run under way whose state this worker should take over, or
// nil: one that is in a later round, or well into this one while this worker would begin
// it. Workers that start together again differ in their steps, and keep them.
func (w *Worker) ahead() *mesh.Member {
	round, step, _ := w.trainer.Position()
	margin := max(2, w.cfg.Trainer.InnerSteps/10)
	if w.cfg.Trainer.InnerTime > 0 {
		margin = 2 // InnerSteps is no measure of a round then
	}
	fresh := step == round*(w.trainer.Steps()/w.trainer.Rounds())
	members, _ := w.mesh.View()
	for _, m := range members {
		if m.ID != w.mesh.Self() && m.State <= mesh.Suspect && m.Ready && m.Begun &&
			(m.Round > round || fresh && m.Round == round && m.Step > step+margin) {
			return &m
		}
	}
	return nil
}

// catchUp takes over the state of a run under way, and tries again until JoinTimeout.
func (w *Worker) catchUp(ctx context.Context, from *mesh.Member) (*trainer.ResyncEvent, error) {
	w.hooks.Log.Info("the run is under way; fetching its state", "round", from.Round, "own_round", w.status.Round)
	ctx, cancel := context.WithTimeout(ctx, w.cfg.JoinTimeout)
	defer cancel()
	e, err := w.takeOver(ctx)
	for ; err != nil && mesh.Pause(ctx, fetchPause); e, err = w.takeOver(ctx) {
		w.hooks.Log.Warn("fetching the run's state again", "error", err)
	}
	if err != nil {
		return nil, fmt.Errorf("join the run, which is in round %d: %w", from.Round, err)
	}
	return e, nil
}

// takeOver fetches the run's state and goes on from it, unless this worker's own outweighs it.
func (w *Worker) takeOver(ctx context.Context) (*trainer.ResyncEvent, error) {
	snap, err := w.fetch(ctx)
	if err != nil {
		return nil, err
	}
	return w.trainer.TakeOver(snap, Joining)
}

// gather waits until the planned workers are ready to start together, so that the
// first rounds have everybody. After JoinTimeout it goes on with the workers that are there.
func (w *Worker) gather(ctx context.Context) {
	deadline := time.NewTimer(w.cfg.JoinTimeout)
	defer deadline.Stop()
	for {
		members, changed := w.mesh.View()
		live, ready := 0, 0
		for _, m := range members {
			if m.State > mesh.Suspect {
				continue
			}
			live++
			if m.Ready {
				ready++
			}
		}
		w.hooks.Report(&PeersEvent{Event: "peers", Worker: w.cfg.Number, Live: live, Ready: ready})
		if ready >= w.cfg.Workers {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			w.hooks.Log.Warn("not all workers came; going on with those who are here", "ready", ready, "planned", w.cfg.Workers, "waited", w.cfg.JoinTimeout)
			return
		case <-ctx.Done():
			return
		}
	}
}

// Depart tells the others that this worker is done, which is that it has finished the run's
// last round, or that it stops before. One that is done stays a little for those that are in
// their last round, but no longer than stop lets it.
func (w *Worker) Depart(stop context.Context, done bool) {
	w.at()
	w.status.Done = done
	w.tell()
	if done && w.averager != nil {
		w.awaitOthers(stop)
	}
}

// awaitOthers waits until every live member is done.
func (w *Worker) awaitOthers(stop context.Context) {
	// An exchange that goes on without the slow ends a little later for them.
	deadline := time.NewTimer(max(departWait, w.cfg.Gossip.Deadline))
	defer deadline.Stop()
	for {
		members, changed := w.mesh.View()
		busy := false
		for _, m := range members {
			busy = busy || m.State <= mesh.Suspect && !m.Done && m.ID != w.mesh.Self()
		}
		if !busy {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			return
		case <-stop.Done():
			return
		}
	}
}
