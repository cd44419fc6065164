package process

import (
	"context"
	"fmt"
	"slices"
	"time"

	"loco/mesh"
	"loco/trainer"
)

const (
	departWait  = 15 * time.Second // for others who are in their last round
	leaveWait   = 2 * time.Second
	checkpointW = 5 * time.Minute
	fetchPause  = time.Second
)

// enter decides how this worker comes into the run: together with the others who
// start, or into one that is under way.
func (w *worker) enter(ctx context.Context) error {
	round, step, tokens := w.trainer.Position()
	w.status = mesh.Status{Worker: w.seat.number, Round: round, Step: step, Tokens: tokens}
	var joined *trainer.ResyncEvent
	var err error
	// Nobody of those who start together has begun before all of them are ready.
	underWay := w.underWay()
	if w.exchange != nil {
		if ahead := w.ahead(); ahead != nil {
			if joined, err = w.catchUp(ctx, ahead); err != nil {
				return err
			}
		}
	}
	round, step, tokens = w.trainer.Position()
	w.status.Round, w.status.Step, w.status.Tokens, w.status.Ready = round, step, tokens, true
	if w.record, err = openRecord(w.seat.path(RecordFile), round); err != nil {
		return err
	}
	w.closers = append(w.closers, w.record.close)
	if joined != nil {
		w.report(joined)
	}
	w.sharer.trainer.Store(w.trainer)
	w.tell()
	if w.exchange != nil && !underWay {
		w.gather(ctx)
	}
	w.status.Begun = true
	w.tell()
	return nil
}

// underWay says whether some member has begun to train.
func (w *worker) underWay() bool {
	members, _ := w.mesh.View()
	return slices.ContainsFunc(members, func(m mesh.Member) bool {
		return m.ID != w.mesh.Self() && m.State <= mesh.Suspect && m.Begun
	})
}

// ahead is a member of a run under way whose state this worker should take over, or
// nil: one that is in a later round, or well into this one while this worker would begin
// it. Workers that start together again differ in their steps, and keep them.
func (w *worker) ahead() *mesh.Member {
	round, step, _ := w.trainer.Position()
	margin := max(2, uint64(w.spec.cfg.Sync.InnerSteps)/10)
	if w.spec.cfg.Sync.InnerTime > 0 {
		margin = 2 // inner_steps is no measure of a round then
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

// catchUp takes over the state of a run under way, and tries again until
// mesh.join_timeout.
func (w *worker) catchUp(ctx context.Context, from *mesh.Member) (*trainer.ResyncEvent, error) {
	round, _, _ := w.trainer.Position()
	w.log.Info("the run is under way; fetching its state", "round", from.Round, "own_round", round)
	ctx, cancel := context.WithTimeout(ctx, w.spec.cfg.Mesh.JoinTimeout.Std())
	defer cancel()
	e, err := w.takeOver(ctx)
	for ; err != nil && pause(ctx, fetchPause); e, err = w.takeOver(ctx) {
		w.log.Warn("fetching the run's state again", "error", err)
	}
	if err != nil {
		return nil, fmt.Errorf("join the run, which is in round %d: %w", from.Round, err)
	}
	return e, nil
}

// takeOver fetches the run's state and goes on from it, unless this worker's own outweighs it.
func (w *worker) takeOver(ctx context.Context) (*trainer.ResyncEvent, error) {
	snap, err := w.exchange.fetch(ctx)
	if err != nil {
		return nil, err
	}
	return w.trainer.TakeOver(snap, "joined a run under way")
}

// pause waits, and says whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// gather waits until the planned workers are ready to start together, so that the
// first rounds have everybody. It goes on after mesh.join_timeout with those who are
// there. A stop meanwhile is the trainer's to take in.
func (w *worker) gather(ctx context.Context) {
	deadline := time.NewTimer(w.spec.cfg.Mesh.JoinTimeout.Std())
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
		w.emit(&PeersEvent{Event: "peers", Worker: w.seat.number, Live: live, Ready: ready})
		if ready >= w.spec.cfg.Run.Workers {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			w.log.Warn("not all workers came; going on with those who are here", "ready", ready, "planned", w.spec.cfg.Run.Workers, "waited", w.spec.cfg.Mesh.JoinTimeout)
			return
		case <-ctx.Done():
			return
		}
	}
}

// depart tells the others that this worker is done or leaves. One that is done stays
// a little for those who are in their last round.
func (w *worker) depart(stop context.Context, done bool) {
	round, step, tokens := w.trainer.Position()
	w.status.Round, w.status.Step, w.status.Tokens, w.status.Done = round, step, tokens, done
	w.tell()
	if done && w.exchange != nil {
		w.awaitOthers(stop)
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveWait)
	defer cancel()
	if err := w.mesh.Leave(ctx); err != nil {
		w.log.Warn("leave the mesh", "error", err)
	}
}

// awaitOthers waits until every live member is done.
func (w *worker) awaitOthers(stop context.Context) {
	// An exchange that goes on without the slow ends a little later for them.
	deadline := time.NewTimer(max(departWait, w.spec.cfg.Sync.Deadline.Std()))
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

// finishSaving waits for the last checkpoint to be on disk.
func (w *worker) finishSaving() error {
	ctx, cancel := context.WithTimeout(context.Background(), checkpointW)
	defer cancel()
	return w.saver.writer.Close(ctx)
}
