package process

import (
	"context"
	"errors"
	"time"

	"loco/mesh/p2p"
)

// enterMesh takes a worker's folder and enters the mesh. Where the number was not given it
// tries the next while one is taken, in this folder or by another machine.
func (w *worker) enterMesh(ctx context.Context, number int) (err error) {
	given := number >= 0
	for k := max(0, number); ; k = w.seat.number + 1 {
		if given {
			w.seat, err = w.spec.takeSeat(k)
		} else {
			w.seat, err = w.spec.takeFreeSeat(k)
		}
		if err != nil {
			return err
		}
		log, closeLog, err := w.seat.openLog()
		if err != nil {
			return err
		}
		w.log = log
		w.compute.tell(log)
		w.emit(&DeviceEvent{Worker: w.seat.number, Device: w.compute.name(), Why: w.compute.why})
		w.mesh, err = w.openMesh(ctx, given)
		var taken *p2p.WorkerTakenError
		if errors.As(err, &taken) && !given {
			if err := errors.Join(closeLog(), w.seat.release()); err != nil {
				return err
			}
			continue
		}
		var other *p2p.ConfigError
		if errors.As(err, &other) {
			err = Usage(err)
		}
		if err != nil {
			return err
		}
		w.closers = append(w.closers, w.seat.release, closeLog, w.mesh.Close)
		return nil
	}
}

// openMesh enters the mesh. A number that was given may still be that of a former process,
// whose end the others have not noticed: it is tried until they have.
func (w *worker) openMesh(ctx context.Context, given bool) (*p2p.Mesh, error) {
	patience := w.spec.cfg.Mesh.DeadAfter.Std()
	until := time.Now().Add(patience)
	for first := true; ; first = false {
		m, err := p2p.New(ctx, w.meshConfig())
		var taken *p2p.WorkerTakenError
		if !given || !errors.As(err, &taken) || time.Now().After(until) {
			return m, err
		}
		if first {
			w.log.Warn("the number is taken; it may be a former process of this worker", "worker", w.seat.number, "by", taken.By, "trying_for", patience)
			w.emit(&TakenEvent{Worker: w.seat.number, By: string(taken.By), Patience: patience})
		}
		if !pause(ctx, fetchPause) {
			return nil, err
		}
	}
}

func (w *worker) meshConfig() p2p.Config {
	m := w.spec.cfg.Mesh
	c := meshTimes(m)
	c.IdentityFile = w.seat.path("identity.key")
	c.Listen, c.MDNS = m.Listen, m.MDNS
	c.Bootstrap = append(w.knownAddrs(), w.join...)
	c.RunID = w.runID
	c.Canonical = w.spec.Canonical(w.set)
	c.Worker = w.seat.number
	c.Logger = w.log
	return c
}
