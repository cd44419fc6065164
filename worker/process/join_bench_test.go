package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"loco/gossip"
	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/mesh"
	"loco/mesh/p2p"
	"loco/trainer"
	"loco/trainer/data"
	"loco/worker"
	"loco/worker/config"
)

// served is a trainer of one thread that joiners of the same machine fetch from.
type served struct {
	worker *worker.Worker // of the source that trains
	steps  chan float64   // seconds of each
	peers  []*p2p.Mesh    // sources, and the joiner last
	fetch  *gossip.AllReduce
	sent   atomic.Int64
}

// newServed makes sources, the first of which trains, each with a cap of bytes a second.
func newServed(b *testing.B, sources int, upload int64) *served {
	cfg, err := config.Load("", []string{"model.width=256", "model.heads=4", "model.kv_heads=4", "model.ffn=704", "model.layers=4", "sync.inner_steps=100000", "run.rounds=1", "sync.codec=fp32", "data.source=."})
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	s, err := NewSpec(&cfg, dir)
	if err != nil {
		b.Fatal(err)
	}
	set, err := data.Prepare(b.Context(), DataOptions(&cfg, dir))
	if err != nil {
		b.Fatal(err)
	}
	cfg.Inner.Threads, cfg.Inner.Device = 1, config.CPU
	cfg.Run.Workers, cfg.Mesh.StateUpload = 1, upload
	v := &served{steps: make(chan float64, 1<<16)}
	for i := range sources + 1 {
		c := p2p.Default()
		c.RunID, c.Worker, c.Listen = "5ca1ab1e5ca1ab1e", i, []string{"/ip4/127.0.0.1/tcp/0"}
		if i > 0 {
			c.Bootstrap = v.peers[0].Addrs()
		}
		c.Logger = slog.New(slog.DiscardHandler)
		m, err := p2p.New(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { m.Close() })
		v.peers = append(v.peers, m)
		if i < sources {
			v.serve(b, s, m, i, learnerOf(b, s, set, i))
		}
	}
	v.fetch, err = gossip.NewAllReduce(gossip.Config{Mesh: v.peers[sources], Worker: sources, Codec: codec.Int8, Waits: gossip.Waits{Deadline: time.Minute, Grace: 10 * time.Second}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { v.fetch.Close() })
	ready := func(m mesh.Member) bool { return m.Ready }
	for {
		members, changed := v.peers[sources].View()
		if n := len(slices.DeleteFunc(members, func(m mesh.Member) bool { return !ready(m) })); n == sources {
			return v
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			b.Fatal("the joiner does not see the sources")
		}
	}
}

// serve makes source number i.
func (v *served) serve(b *testing.B, s *Spec, m mesh.Mesh, i int, learner trainer.Learner) {
	c := s.workerConfig(i, 1)
	c.Gossip.Deadline, c.Gossip.Grace = time.Minute, 10*time.Second
	w, err := worker.New(c, m, learner, worker.Hooks{Sent: func(n int) { v.sent.Add(int64(n)) }, Report: func(event any) {
		if e, ok := event.(*trainer.StepEvent); ok {
			v.steps <- e.Seconds
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.Close() })
	if err := w.Enter(b.Context()); err != nil {
		b.Fatal(err)
	}
	if i == 0 {
		v.worker = w
	}
}

// BenchmarkStepWhileServing is the median inner step of a worker that serves joiners all
// the time. The joiner runs in the same process, so on one core it takes some of the time itself.
func BenchmarkStepWhileServing(b *testing.B) {
	for _, c := range []struct {
		name   string
		upload int64
		serve  bool
	}{{"undisturbed", 0, false}, {"serving 2.5 MB a second", 2_500_000, true}, {"serving 50 MB a second", 50_000_000, true}, {"serving without a cap", 0, true}} {
		b.Run(c.name, func(b *testing.B) {
			v := newServed(b, 1, c.upload)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			stop, ended, fetching := make(chan struct{}), make(chan error, 1), make(chan struct{})
			go func() { ended <- v.worker.Train(ctx, stop) }()
			go func() {
				defer close(fetching)
				for c.serve && ctx.Err() == nil {
					if _, err := v.fetch.FetchState(ctx, exchange.Want{}); err != nil && ctx.Err() == nil {
						b.Error(err)
					}
				}
			}()
			for range 10 { // warm up
				<-v.steps
			}
			v.sent.Store(0)
			began := time.Now()
			var seconds []float64
			for b.Loop() {
				seconds = append(seconds, <-v.steps)
			}
			wall := time.Since(began).Seconds()
			close(stop)
			if err := <-ended; !errors.Is(err, trainer.ErrStopped) {
				b.Error(err)
			}
			cancel()
			<-fetching
			slices.Sort(seconds)
			b.ReportMetric(1e3*seconds[len(seconds)/2], "ms/step")
			b.ReportMetric(float64(v.sent.Load())/wall/1e6, "MB/s")
		})
	}
}

// BenchmarkJoin is the time to fetch a state from sources that are each capped.
func BenchmarkJoin(b *testing.B) {
	for _, sources := range []int{1, 3} {
		b.Run(fmt.Sprintf("%d sources of 10 MB a second", sources), func(b *testing.B) {
			v := newServed(b, sources, 10_000_000)
			var bytes int64
			for b.Loop() {
				f, err := v.fetch.FetchState(b.Context(), exchange.Want{})
				if err != nil {
					b.Fatal(err)
				}
				bytes += f.Bytes
			}
			b.ReportMetric(float64(bytes)/b.Elapsed().Seconds()/1e6, "MB/s")
		})
	}
}
