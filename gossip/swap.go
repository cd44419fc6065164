package gossip

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/gossip/protocol"
)

// swap is the data plane of one exchange of a pair: both send all of their encoded
// vector and keep both encodings. What is missing is in the ledger.
type swap struct {
	*protocol.PairLedger
	worker int
	codec  codec.Codec
	links  *links
	vec    exchange.Vector
	onDone func()
	onFail func(why string)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	decodeTime     atomic.Int64
	sent, received atomic.Uint64

	mu      sync.Mutex // of the ledger and theirs
	stopped bool
	theirs  *assembly
}

func newSwap(now time.Time, x protocol.Exchange, c codec.Codec, l *links, vec exchange.Vector, worker int) *swap {
	w := &swap{worker: worker, codec: c, links: l, vec: vec}
	w.PairLedger = protocol.NewPairLedger(now, x, worker, vec.Values, chunkValues(c))
	w.ctx, w.cancel = context.WithCancel(l.ctx)
	w.theirs = newAssembly(c, vec.Values, nil)
	return w
}

func (w *swap) begin() { w.wg.Go(w.send) }

func (w *swap) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.cancel()
}

// send sends chunk after chunk.
func (w *swap) send() {
	for c := range w.Chunks() {
		s := w.Chunk(c)
		mine := w.codec.Cut(w.vec.Bytes, s.Lo, s.Hi)
		h := protocol.Header{Type: protocol.TypePair, Part: w.Part, Round: w.Round, Attempt: w.Number, Chunk: uint32(c),
			Worker: uint32(w.worker), Count: uint32(s.Hi - s.Lo)}
		if err := w.links.writeData(w.ctx, w.Peer, h, mine); err != nil {
			if w.ctx.Err() == nil {
				w.onFail(fmt.Sprintf("takes no data: %v", err))
			}
			return
		}
		w.sent.Add(uint64(protocol.HeaderLen + len(mine)))
		w.file(w.Sent)
	}
}

// file enters something into the ledger, and reports when nothing is missing.
func (w *swap) file(enter func() (complete bool)) {
	w.mu.Lock()
	full := enter() && !w.stopped
	w.mu.Unlock()
	if full {
		w.onDone()
	}
}

// accept takes a chunk of the partner's. An error names what is wrong with it.
func (w *swap) accept(now time.Time, h protocol.Header, payload []byte) error {
	w.mu.Lock()
	fresh, err := w.Accept(now, h)
	w.mu.Unlock()
	if err != nil {
		return err
	}
	s := w.Chunk(int(h.Chunk))
	if !fits(w.codec, s.Hi-s.Lo, len(payload)) {
		return fmt.Errorf("%d values in %d bytes of chunk %d, want %d", h.Count, len(payload), h.Chunk, w.codec.EncodedLen(s.Hi-s.Lo))
	}
	start := time.Now()
	err = w.codec.Check(s.Hi-s.Lo, payload)
	w.decodeTime.Add(int64(time.Since(start)))
	if err != nil {
		return err
	}
	w.received.Add(uint64(protocol.HeaderLen + len(payload)))
	if !fresh {
		return nil
	}
	w.file(func() bool {
		if w.stopped {
			return false
		}
		w.theirs.placed(s, copy(w.theirs.room(s), payload))
		return w.Arrived(int(h.Chunk))
	})
	return nil
}

// stalled says that the partner has sent nothing for Grace and something of its is missing.
func (w *swap) stalled(now time.Time, grace time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.stopped && w.Stalled(now, grace)
}

// mean is that of both ([protocol.PairLedger.Halves]).
func (w *swap) mean() (terms []exchange.Term) {
	for _, half := range w.Halves() {
		from := w.vec.Bytes
		if !half.Own {
			from = w.theirs.whole(func(yield func(protocol.Span) bool) {
				for c := range w.Chunks() {
					if !yield(w.Chunk(c)) {
						return
					}
				}
			})
		}
		terms = append(terms, exchange.Term{Bytes: from, Share: half.Share})
	}
	return terms
}
