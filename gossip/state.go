package gossip

import (
	"context"
	"sync"
	"time"

	"loco/gossip/transfer"
	"loco/mesh"
)

const (
	stateID       = "/loco/gossip/state/3"
	stateServeMax = 128 // streams of joiners that are served at a time
	stateBurst    = 64 << 10
	stateSlice    = 16 << 10 // written at a time when the rate is limited
	stateWindow   = 8        // chunks asked of a source at a time
)

// states serves and fetches states. loco/gossip/transfer has what crosses and what decides.
type states struct {
	cfg      *Config
	replicas bool // workers hold the same bits, and rounds can be replayed
	// served is told of a joiner that will be ready for the round or the next.
	served func(joiner mesh.ID, round uint64)
	ctx    context.Context
	cancel context.CancelFunc
	log    resultLog
	taking chan struct{} // held while a state is captured

	mu      sync.Mutex
	bucket  *transfer.Bucket
	held    map[transfer.Kind]*object // the state and the moments that are served
	expiry  *time.Timer
	serving int
	closed  bool
	wg      sync.WaitGroup
}

func newStates(cfg *Config, replicas bool, served func(mesh.ID, uint64)) *states {
	s := &states{cfg: cfg, replicas: replicas, served: served, taking: make(chan struct{}, 1),
		log:    resultLog{roundsMax: cfg.ReplayRounds, bytesMax: cfg.ReplayBytes},
		bucket: transfer.NewBucket(cfg.StateUpload, stateBurst), held: map[transfer.Kind]*object{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if cfg.State != nil {
		cfg.Mesh.Handle(stateID, s.handle)
	}
	return s
}

func (s *states) close() {
	s.cfg.Mesh.Handle(stateID, nil)
	s.mu.Lock()
	s.closed = true
	clear(s.held)
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
}

// paced gives each read and write of a stream Grace to make progress.
type paced struct {
	stream mesh.Stream
	grace  time.Duration
}

func (p *paced) Read(b []byte) (int, error) {
	_ = p.stream.SetDeadline(time.Now().Add(p.grace))
	return p.stream.Read(b)
}

func (p *paced) Write(b []byte) (int, error) {
	_ = p.stream.SetDeadline(time.Now().Add(p.grace))
	return p.stream.Write(b)
}
