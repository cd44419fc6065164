package gossip

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"loco/gossip/transfer"
	"loco/mesh"
)

// gathering is an object on its way from several sources at once.
type gathering struct {
	*sessions
	ctx    context.Context
	object *object
	file   *partial // nil: in memory only

	mu      sync.Mutex
	plan    *transfer.Plan
	changed chan struct{}
	bytes   int64
}

// gather fetches an object from sources that serve its manifest. An error says which source was
// dropped and why; what has come is in the partial file.
func (f *fetching) gather(parent context.Context, m *transfer.Manifest, sources []mesh.ID) (*object, error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	g := &gathering{sessions: f.sessions, ctx: ctx, object: gather(m), changed: make(chan struct{}),
		plan: transfer.NewPlan(len(m.Chunks), stateWindow, f.cfg.Deadline)}
	if f.cfg.StateDir != "" {
		file, err := openPartial(f.cfg.StateDir, g.object, uint64(f.cfg.MaxState))
		if err != nil {
			f.cfg.Logger.Warn("gossip: a fetch that is interrupted will begin anew", "error", err)
		} else {
			defer file.close()
			g.file = file
			file.scan(m, func(chunk int, b []byte) {
				g.object.put(chunk, b)
				g.plan.Have(chunk)
			})
		}
	}
	for _, id := range sources {
		g.plan.Add(id)
	}
	var wg sync.WaitGroup
	for _, id := range sources {
		wg.Go(func() {
			g.pull(id)
			g.mu.Lock()
			if g.plan.Missing() == 0 || g.plan.Sources() == 0 {
				cancel() // the others need not wait for a slow source
			}
			g.mu.Unlock()
		})
	}
	wg.Wait()
	f.note(g.plan.Blame(), g.bytes)
	if g.plan.Missing() > 0 {
		return nil, errors.Join(fmt.Errorf("%d of %d chunks of round %d are missing, and no source is left: %q", g.plan.Missing(), len(m.Chunks), m.Round, g.plan.Blame()), context.Cause(parent))
	}
	if err := g.object.verify(); err != nil {
		f.distrust(sources)
		return nil, fmt.Errorf("sources %v: %w", sources, err)
	}
	return g.object, nil
}

// pull asks one source for chunks until nothing is left for it.
func (g *gathering) pull(id mesh.ID) {
	c, err := g.get(id)
	if err != nil {
		g.drop(id, err)
		return
	}
	owed := 0
	interrupt := context.AfterFunc(g.ctx, func() { _ = c.stream.Reset() })
	defer func() {
		if !interrupt() || owed > 0 {
			g.sessions.drop(c)
		} else {
			g.put(c)
		}
	}()
	for {
		asks, changed, over := g.next(id)
		if over {
			return
		}
		for _, chunk := range asks {
			owed++
			if err := c.send(transfer.TypeGet, transfer.Get{ID: g.object.id, Chunk: uint32(chunk)}.Append(nil)); err != nil {
				g.drop(id, err)
				return
			}
		}
		if owed == 0 {
			select {
			case <-changed:
			case <-time.After(g.cfg.Grace): // somebody may be too slow by now
			case <-g.ctx.Done():
				return
			}
			continue
		}
		if err := g.receive(c); err != nil {
			g.drop(id, err)
			return
		}
		owed--
	}
}

// next returns the chunks to ask of a source now.
func (g *gathering) next(id mesh.ID) (asks []int, changed <-chan struct{}, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if dropped := g.plan.Tick(now); len(dropped) > 0 {
		g.wake()
	}
	for {
		chunk, ok := g.plan.Next(now, id)
		if !ok {
			break
		}
		asks = append(asks, chunk)
	}
	return asks, g.changed, g.plan.Missing() == 0 || !g.plan.Has(id)
}

// receive takes a chunk. A wrong one is the plan's to blame.
func (g *gathering) receive(c *session) error {
	p, err := c.receive(transfer.TypeChunk, 4+int(g.object.ChunkBytes))
	if err != nil {
		return err
	}
	if len(p) < 4 {
		return fmt.Errorf("sent a chunk of %d bytes", len(p))
	}
	chunk := int(binary.LittleEndian.Uint32(p))
	if chunk >= len(g.object.Chunks) {
		return fmt.Errorf("sent chunk %d of %d", chunk, len(g.object.Chunks))
	}
	good := sha256.Sum256(p[4:]) == g.object.Chunks[chunk]
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bytes += int64(len(p))
	if g.plan.Arrived(time.Now(), c.id, chunk, good) {
		g.object.put(chunk, p[4:])
		if g.file != nil {
			if err := g.file.write(g.object.Manifest, chunk, p[4:]); err != nil {
				g.cfg.Logger.Warn("gossip: a fetch that is interrupted will begin anew", "error", err)
				g.file = nil
			}
		}
	}
	g.wake()
	return nil
}

func (g *gathering) drop(id mesh.ID, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() == nil { // otherwise it was this end that stopped
		g.plan.Drop(id, err.Error())
		g.wake()
	}
}

// wake tells fetchers that have nothing to ask for that something changed. g.mu is held.
func (g *gathering) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}
