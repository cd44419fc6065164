package gossip

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"loco/gossip/codec"
	"loco/gossip/protocol"
)

// swap is the data plane of one exchange of a pair: both send all of their encoded
// vector and keep both encodings.
type swap struct {
	protocol.Exchange
	worker int
	codec  codec.Codec
	links  *links
	vec    []float32
	onDone func()
	onFail func(why string)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	encodeTime, decodeTime atomic.Int64
	sent, received         atomic.Uint64

	mu           sync.Mutex
	stopped      bool
	mine, theirs []byte
	have         []bool
	missing      int // chunks of theirs, and one for having sent all of mine
	progress     time.Time
}

func newSwap(x protocol.Exchange, c codec.Codec, l *links, vec []float32, worker int) *swap {
	w := &swap{Exchange: x, worker: worker, codec: c, links: l, vec: vec}
	w.ctx, w.cancel = context.WithCancel(l.ctx)
	w.mine = make([]byte, 0, c.EncodedLen(len(vec)))
	w.theirs = make([]byte, c.EncodedLen(len(vec)))
	w.have = make([]bool, protocol.Span{Hi: len(vec)}.Chunks())
	w.missing = len(w.have) + 1
	return w
}

func (w *swap) begin(now time.Time) {
	w.progress = now
	w.wg.Go(w.send)
}

func (w *swap) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.cancel()
}

// send encodes and sends chunk after chunk.
func (w *swap) send() {
	all := protocol.Span{Hi: len(w.vec)}
	for c := range w.have {
		s, at, start := all.Chunk(c), len(w.mine), time.Now()
		mine, err := w.codec.AppendEncode(w.mine, w.vec[s.Lo:s.Hi])
		w.encodeTime.Add(int64(time.Since(start)))
		if err == nil {
			w.mine = mine
			h := protocol.Header{Type: protocol.TypePair, Part: w.Part, Round: w.Round, Attempt: w.Number, Chunk: uint32(c),
				Worker: uint32(w.worker), Count: uint32(s.Hi - s.Lo)}
			err = w.links.writeData(w.ctx, w.Peer, h, mine[at:])
		}
		if err != nil {
			if w.ctx.Err() == nil {
				w.onFail(fmt.Sprintf("takes no data: %v", err))
			}
			return
		}
		w.sent.Add(uint64(protocol.HeaderLen + len(mine) - at))
	}
	w.count()
}

// count notes that one thing less is missing, and reports when nothing is.
func (w *swap) count() {
	w.mu.Lock()
	w.missing--
	full := w.missing == 0 && !w.stopped
	w.mu.Unlock()
	if full {
		w.onDone()
	}
}

// accept takes a chunk of the partner's. An error names what is wrong with it.
func (w *swap) accept(now time.Time, h protocol.Header, payload []byte) error {
	if int(h.Chunk) >= len(w.have) || h.Shard != 0 {
		return fmt.Errorf("data of shard %d, chunk %d, which do not exist", h.Shard, h.Chunk)
	}
	s := protocol.Span{Hi: len(w.vec)}.Chunk(int(h.Chunk))
	if want := w.codec.EncodedLen(s.Hi - s.Lo); int(h.Count) != s.Hi-s.Lo || len(payload) != want {
		return fmt.Errorf("%d values in %d bytes of chunk %d, want %d in %d", h.Count, len(payload), h.Chunk, s.Hi-s.Lo, want)
	}
	start := time.Now()
	err := w.codec.Check(s.Hi-s.Lo, payload)
	w.decodeTime.Add(int64(time.Since(start)))
	if err != nil {
		return err
	}
	w.received.Add(uint64(protocol.HeaderLen + len(payload)))
	w.mu.Lock()
	w.progress = now
	if w.stopped || w.have[h.Chunk] {
		w.mu.Unlock()
		return nil
	}
	w.have[h.Chunk] = true
	copy(w.theirs[w.codec.EncodedLen(s.Lo):], payload)
	w.mu.Unlock()
	w.count()
	return nil
}

// stalled says that the partner has sent nothing for Grace and something is missing.
func (w *swap) stalled(now time.Time, grace time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.stopped && w.missing > 0 && now.Sub(w.progress) >= grace
}

// apply sets vec to the mean of both,
//
//	float32(w₁/(w₁+w₂))·x₁ + float32(w₂/(w₁+w₂))·x₂
//
// from the decoded bytes, 1 being the lower worker; products and sum in float32, the
// weights' quotient in float64.
func (w *swap) apply(self int) error {
	first, second := w.mine, w.theirs
	a, b := w.Own, w.Other
	if self > w.PeerWorker {
		first, second, a, b = second, first, b, a
	}
	all := protocol.Span{Hi: len(w.vec)}
	for c := range w.have {
		s := all.Chunk(c)
		lo := w.codec.EncodedLen(s.Lo)
		hi := lo + w.codec.EncodedLen(s.Hi-s.Lo)
		x := w.vec[s.Lo:s.Hi]
		clear(x)
		if err := w.codec.DecodeAdd(x, first[lo:hi], float32(a/(a+b))); err != nil {
			return err
		}
		if err := w.codec.DecodeAdd(x, second[lo:hi], float32(b/(a+b))); err != nil {
			return err
		}
	}
	return nil
}
