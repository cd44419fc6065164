package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"loco/mesh"
	"loco/mesh/p2p"
)

// takenPause is between two tries to enter with a number that is taken.
const takenPause = time.Second

// meshOfRun is what a process needs of its mesh.
type meshOfRun interface {
	mesh.Mesh
	Addrs() []string
	LifeCounts() p2p.LifeCounts
	Leave(ctx context.Context) error
	Close() error
}

func newP2P(ctx context.Context, c p2p.Config) (meshOfRun, error) {
	m, err := p2p.New(ctx, c)
	if err != nil {
		return nil, err // not a nil *p2p.Mesh that is not nil
	}
	return m, nil
}

// enterMesh takes a worker's folder and enters the mesh. Where the number was not given it
// tries the next while one is taken, in this folder or by another machine.
func (p *process) enterMesh(ctx context.Context, number int) (err error) {
	given := number >= 0
	for k := max(0, number); ; k = p.seat.number + 1 {
		if given {
			p.seat, err = p.spec.takeSeat(k)
		} else {
			p.seat, err = p.spec.takeFreeSeat(k)
		}
		if err != nil {
			return err
		}
		log, closeLog, err := p.seat.openLog(p.warn)
		if err != nil {
			return errors.Join(err, p.seat.release())
		}
		p.log = log
		p.compute.tell(log)
		p.emit(&DeviceEvent{Worker: p.seat.number, Device: p.compute.name(), Why: p.compute.why})
		p.mesh, err = p.openMesh(ctx, given)
		var taken *p2p.WorkerTakenError
		if errors.As(err, &taken) && !given {
			if err := errors.Join(closeLog(), p.seat.release()); err != nil {
				return err
			}
			continue
		}
		var other *p2p.ConfigError
		if errors.As(err, &other) {
			err = Usage(err)
		}
		p.closers = append(p.closers, p.seat.release, closeLog)
		if err == nil {
			p.closers = append(p.closers, p.mesh.Close)
		}
		return err
	}
}

// openMesh enters the mesh. A number that was given may still be that of a former process,
// whose end the others have not noticed: it is tried until they have.
func (p *process) openMesh(ctx context.Context, given bool) (meshOfRun, error) {
	patience := p.spec.cfg.Mesh.DeadAfter
	until := time.Now().Add(patience)
	for first := true; ; first = false {
		m, err := p.newMesh(ctx, p.meshConfig())
		var taken *p2p.WorkerTakenError
		if !given || !errors.As(err, &taken) || time.Now().After(until) {
			return m, err
		}
		if first {
			p.log.Warn("the number is taken; it may be a former process of this worker", "worker", p.seat.number, "by", taken.By, "trying_for", patience)
			p.emit(&TakenEvent{Worker: p.seat.number, By: string(taken.By), Patience: patience})
		}
		if !mesh.Pause(ctx, takenPause) {
			return nil, err
		}
	}
}

func (p *process) meshConfig() p2p.Config {
	m := p.spec.cfg.Mesh
	c := meshTimes(m)
	c.IdentityFile = p.seat.path("identity.key")
	c.Listen, c.MDNS = m.Listen, m.MDNS
	c.Bootstrap = append(p.knownAddrs(), p.join...)
	c.RunID = p.runID
	c.Canonical = p.spec.Canonical(p.set)
	c.Worker = p.seat.number
	c.Logger = p.log
	return c
}

// knownAddrs are the addresses of the workers that run in this folder now: a worker
// that is started again needs no --join.
func (p *process) knownAddrs() (addrs []string) {
	paths, _ := filepath.Glob(filepath.Join(p.spec.dir, "worker-*", addressFile))
	for _, path := range paths {
		if dir := filepath.Dir(path); dir == p.seat.dir || !Occupied(dir) {
			continue // the address that a killed worker left would cost a wait and reach nobody
		}
		if text, err := os.ReadFile(path); err == nil && len(text) < 64<<10 {
			addrs = append(addrs, strings.Fields(string(text))...)
		}
	}
	return addrs
}

// tellAddress leaves this worker's address for the workers of this folder that start later.
func (p *process) tellAddress(metrics string) {
	addrs := p.mesh.Addrs()
	if err := WriteWhole(p.seat.path(addressFile), []byte(strings.Join(addrs, "\n")+"\n")); err != nil {
		p.log.Warn("leave the address", "error", err)
	}
	p.closers = append(p.closers, func() error { return os.Remove(p.seat.path(addressFile)) })
	p.emit(&AddressEvent{Event: "address", Worker: p.seat.number, Peer: string(p.mesh.Self()), Addrs: addrs, Metrics: metrics})
	p.log.Info("worker is up", "worker", p.seat.number, "run", p.runID, "peer", p.mesh.Self(), "addrs", addrs, "metrics", metrics, "data", p.set.Digest)
}
