package main

import (
	"context"
	"fmt"
	"time"

	"loco/mesh"
	"loco/trainer"
)

const (
	departWait  = 15 * time.Second // for others who are in their last round
	leaveWait   = 2 * time.Second
	checkpointW = 5 * time.Minute
)

// enter decides how this worker comes into the run: together with the others who
// start, or into one that is under way.
func (w *worker) enter(ctx context.Context) error {
	round, step, tokens := w.trainer.Position()
	w.status = mesh.Status{Worker: w.seat.number, Round: round, Step: step, Tokens: tokens}
	if w.exchange != nil {
		if ahead := w.ahead(); ahead != nil {
			if err := w.catchUp(ctx, ahead); err != nil {
				return err
			}
		}
	}
	round, step, tokens = w.trainer.Position()
	w.status.Round, w.status.Step, w.status.Tokens, w.status.Ready = round, step, tokens, true
	var err error
	if w.record, err = openRecord(w.seat.path(recordFile), round); err != nil {
		return err
	}
	w.closers = append(w.closers, w.record.close)
	w.tell()
	if w.exchange != nil {
		return w.gather(ctx)
	}
	return nil
}

// ahead is a member whose state this worker should take over, or nil: one that is in
// a later round, or well into this one.
func (w *worker) ahead() *mesh.Member {
	round, step, _ := w.trainer.Position()
	margin := max(2, uint64(w.spec.cfg.Sync.InnerSteps)/10)
	members, _ := w.mesh.View()
	for _, m := range members {
		if m.ID != w.mesh.Self() && m.State <= mesh.Suspect && m.Ready && !m.Done &&
			(m.Round > round || m.Round == round && m.Step > step+margin) {
			return &m
		}
	}
	return nil
}

// catchUp takes over the state of a run under way.
func (w *worker) catchUp(ctx context.Context, from *mesh.Member) error {
	round, _, _ := w.trainer.Position()
	w.log.Info("the run is under way; fetching its state", "round", from.Round, "own_round", round)
	ctx, cancel := context.WithTimeout(ctx, w.spec.cfg.Mesh.JoinTimeout.Std())
	defer cancel()
	snap, err := w.exchange.fetch(ctx)
	if err != nil {
		return fmt.Errorf("join the run, which is in round %d: %w", from.Round, err)
	}
	if snap.Round < round {
		return nil // the others went back; they will fetch from us
	}
	if err := w.trainer.Join(snap); err != nil {
		return fmt.Errorf("join the run: %w", err)
	}
	w.emit(&trainer.ResyncEvent{Event: "resync", Worker: w.seat.number, Why: "joined a run under way", FromRound: round, Round: snap.Round, Digest: w.trainer.SlowDigest()})
	return nil
}

// gather waits until the planned workers are ready to start together, so that the
// first rounds have everybody. It goes on after mesh.join_timeout with those who are
// there, and at once when the run is under way.
func (w *worker) gather(ctx context.Context) error {
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
			if m.ID != w.mesh.Self() && m.Ready && m.Step > w.status.Step {
				return nil // under way
			}
		}
		w.emit(&peersEvent{Event: "peers", Worker: w.seat.number, Live: live, Ready: ready})
		if ready >= w.spec.cfg.Run.Workers {
			return nil
		}
		select {
		case <-changed:
		case <-deadline.C:
			w.log.Warn("not all workers came; going on with those who are here", "ready", ready, "planned", w.spec.cfg.Run.Workers, "waited", w.spec.cfg.Mesh.JoinTimeout)
			return nil
		case <-ctx.Done():
			return nil // the trainer saves and stops at once
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
	deadline := time.NewTimer(departWait)
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
