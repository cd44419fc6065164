package gossip

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/gossip/protocol"
	"loco/mesh"
)

// reduction is the data plane of one attempt: a butterfly in two hops.
//
//	mean = Σᵢ wᵢ·xᵢ / Σᵢ wᵢ
//
// is formed by the owner of each shard in float32: it starts from 0 and adds
// float32(wᵢ/Σw)·decoded(xᵢ) for i ascending by worker, whatever the order of arrival,
// with Σw and the quotient in float64. The sum is encoded once; the hash of a result
// is the digest of the whole encoded vector ([kernels.Digest]). What has arrived and what follows from it
// is the ledger's to say.
type reduction struct {
	protocol.Plan
	part   exchange.Part
	codec  codec.Codec
	sums   *sync.Pool // codec.Sum
	links  *links
	vec    exchange.Vector // read only, until join returns
	onDone func(number uint64, result []byte)
	onFail func(number uint64, who mesh.ID, why string)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	encodeTime, decodeTime atomic.Int64
	sent, received         atomic.Uint64

	mu      sync.Mutex
	ledger  *protocol.Ledger
	stopped bool
	result  *assembly  // what the contributions become
	slots   [][][]byte // own shard: [chunk][member] contributions, nil once reduced
	news    chan struct{}
}

func newReduction(now time.Time, p protocol.Plan, part exchange.Part, c codec.Codec, sums *sync.Pool, l *links, vec exchange.Vector, result []byte) *reduction {
	r := &reduction{Plan: p, part: part, codec: c, sums: sums, links: l, vec: vec, news: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(l.ctx)
	r.result = newAssembly(c.Down(), p.Length, result)
	r.ledger = protocol.NewLedger(now, p, c.Block(), chunkValues(c))
	if p.Source == "" {
		for range r.ledger.Chunks(p.Self) {
			r.slots = append(r.slots, make([][]byte, len(p.Members)))
		}
	}
	return r
}

// begin starts to send. A download only waits.
func (r *reduction) begin() {
	if r.Source != "" {
		return
	}
	for j := range r.Members {
		if j == r.Self {
			r.wg.Go(r.contributeOwn)
		} else {
			r.wg.Go(func() { r.sendTo(j) })
		}
	}
}

// stop ends the goroutines soon; join waits for them.
func (r *reduction) stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.cancel()
}

func (r *reduction) join() { r.wg.Wait() }

// discard gives back what a failed attempt holds, once nothing uses it.
func (r *reduction) discard() {
	r.stop()
	r.join()
	for _, chunk := range r.slots {
		r.recycle(chunk)
	}
	r.slots, r.result, r.vec = nil, nil, exchange.Vector{}
}

// recycle gives back contributions; this worker's own are part of its vector.
func (r *reduction) recycle(slots [][]byte) {
	for j, payload := range slots {
		if j != r.Self && payload != nil {
			r.links.recycle(payload)
		}
	}
}

// enter counts a caller that join must wait for, unless the attempt is over.
func (r *reduction) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.wg.Add(1)
	}
	return !r.stopped
}

func (r *reduction) contributeOwn() {
	for c := range r.ledger.Chunks(r.Self) {
		own := r.cut(r.ledger.Chunk(r.Self, c))
		if _, err := r.contribute(r.Self, c, own); err != nil || r.ctx.Err() != nil {
			return
		}
	}
}

// sendTo sends member j its shard of this worker's vector, then this worker's shard
// of the result, chunk by chunk as it forms.
func (r *reduction) sendTo(j int) {
	to := r.Members[j].ID
	for c := range r.ledger.Chunks(j) {
		s := r.ledger.Chunk(j, c)
		if err := r.write(r.ctx, to, protocol.TypeContribution, j, c, s, r.cut(s)); err != nil {
			r.failed(to, err)
			return
		}
	}
	for c := range r.ledger.Chunks(r.Self) {
		if !r.awaitReduced(c) {
			return
		}
		s := r.ledger.Chunk(r.Self, c)
		if err := r.write(r.ctx, to, protocol.TypeResult, r.Self, c, s, r.chunk(s)); err != nil {
			r.failed(to, err)
			return
		}
	}
}

func (r *reduction) failed(who mesh.ID, err error) {
	if r.ctx.Err() == nil {
		r.onFail(r.Number, who, fmt.Sprintf("takes no data: %v", err))
	}
}

func (r *reduction) awaitReduced(c int) bool {
	for {
		r.mu.Lock()
		ok, news := r.ledger.Has(r.Self, c), r.news
		r.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-news:
		case <-r.ctx.Done():
			return false
		}
	}
}

// cut is the part of this worker's vector that has the values s.
func (r *reduction) cut(s protocol.Span) []byte { return r.codec.Cut(r.vec.Bytes, s.Lo, s.Hi) }

// chunk is a chunk of the result that is there.
func (r *reduction) chunk(s protocol.Span) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.result.chunk(s)
}

// whole is the result, once all of it is there.
func (r *reduction) whole() []byte {
	return r.result.whole(func(yield func(protocol.Span) bool) {
		for shard := range r.ledger.Shards {
			for c := range r.ledger.Chunks(shard) {
				if !yield(r.ledger.Chunk(shard, c)) {
					return
				}
			}
		}
	})
}

// chunkValues is the number of values in a full chunk: as many blocks as a frame takes.
func chunkValues(c codec.Codec) int { return protocol.ChunkValues / c.Block() * c.Block() }

func (r *reduction) write(ctx context.Context, to mesh.ID, t protocol.Type, shard, chunk int, s protocol.Span, payload []byte) error {
	h := protocol.Header{Type: t, Part: r.part, Round: r.Round, Attempt: r.Number, Shard: uint32(shard), Chunk: uint32(chunk), Count: uint32(s.Hi - s.Lo)}
	if r.Self >= 0 {
		h.Worker = uint32(r.Members[r.Self].Worker)
	}
	err := r.links.writeData(ctx, to, h, payload)
	if err == nil {
		r.sent.Add(uint64(protocol.HeaderLen + len(payload)))
	}
	return err
}

// accept takes a data frame of this attempt. An error names what the sender did
// wrong.
func (r *reduction) accept(now time.Time, from mesh.ID, h protocol.Header, payload []byte) (keep bool, err error) {
	if !r.enter() {
		return false, nil
	}
	defer r.wg.Done()
	r.mu.Lock()
	t, err := r.ledger.Accept(now, from, h)
	r.mu.Unlock()
	if err != nil || !t.Use {
		return false, err
	}
	format := r.codec
	if h.Type == protocol.TypeResult {
		format = r.codec.Down()
	}
	if n := t.Span.Hi - t.Span.Lo; !fits(format, n, len(payload)) {
		return false, fmt.Errorf("%d bytes of shard %d, chunk %d, want %d", len(payload), h.Shard, h.Chunk, format.EncodedLen(n))
	}
	r.received.Add(uint64(protocol.HeaderLen + len(payload)))
	if h.Type == protocol.TypeResult {
		return false, r.takeResult(int(h.Shard), int(h.Chunk), t.Span, payload)
	}
	return r.contribute(t.Member, int(h.Chunk), payload)
}

// takeResult stores an owner's bytes after a look at whether they decode.
func (r *reduction) takeResult(shard, chunk int, s protocol.Span, payload []byte) error {
	start := time.Now()
	err := r.codec.Down().Check(s.Hi-s.Lo, payload)
	r.decodeTime.Add(int64(time.Since(start)))
	if err != nil {
		return err
	}
	r.mu.Lock()
	if r.stopped || r.ledger.Has(shard, chunk) {
		r.mu.Unlock()
		return nil
	}
	r.result.placed(s, copy(r.result.room(s), payload))
	r.mu.Unlock()
	r.finishChunk(shard, chunk)
	return nil
}

// contribute files member j's encoding of a chunk of the own shard and reduces the
// chunk when all are there. It says whether it keeps the payload.
func (r *reduction) contribute(j, c int, payload []byte) (keep bool, err error) {
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return false, nil
	}
	fresh, full := r.ledger.Contribute(j, c)
	if !fresh {
		r.mu.Unlock()
		return false, nil
	}
	r.slots[c][j] = payload
	slots := r.slots[c]
	r.mu.Unlock()
	if full {
		r.reduceChunk(c, slots)
	}
	return true, nil
}

// reduceChunk forms and encodes one chunk of the mean.
func (r *reduction) reduceChunk(c int, slots [][]byte) {
	start := time.Now()
	s := r.ledger.Chunk(r.Self, c)
	sum := r.sums.Get().(codec.Sum)
	defer r.sums.Put(sum)
	sum.Begin(s.Hi - s.Lo)
	for j, payload := range slots {
		if err := sum.Add(payload, r.ledger.Share(j)); err != nil {
			r.onFail(r.Number, r.Members[j].ID, err.Error())
			return
		}
	}
	r.decodeTime.Add(int64(time.Since(start)))
	start = time.Now()
	out, err := sum.AppendResult(r.result.room(s)[:0])
	if err != nil {
		j := r.largest(slots, s.Hi-s.Lo)
		r.onFail(r.Number, r.Members[j].ID, "its values overflow the mean")
		return
	}
	r.encodeTime.Add(int64(time.Since(start)))
	r.mu.Lock()
	if r.stopped { // discard gives them back
		r.mu.Unlock()
		return
	}
	r.result.placed(s, len(out))
	r.slots[c] = nil
	r.mu.Unlock()
	r.recycle(slots)
	r.finishChunk(r.Self, c)
}

// largest returns the member whose contribution holds the largest magnitude.
func (r *reduction) largest(slots [][]byte, n int) int {
	worst, most := 0, 0.0
	x := make([]float32, n)
	for j, payload := range slots {
		if r.codec.Decode(x, payload) != nil {
			return j
		}
		for _, v := range x {
			if a := math.Abs(float64(v)); a > most {
				worst, most = j, a
			}
		}
	}
	return worst
}

// finishChunk counts a chunk of the result and reports the whole when it is there.
func (r *reduction) finishChunk(shard, chunk int) {
	r.mu.Lock()
	full := r.ledger.Arrived(shard, chunk) && !r.stopped
	close(r.news)
	r.news = make(chan struct{})
	r.mu.Unlock()
	if full {
		r.onDone(r.Number, r.whole())
	}
}

// stalled names a member that keeps this worker waiting.
func (r *reduction) stalled(now time.Time, grace time.Duration) (who mesh.ID, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return "", ""
	}
	return r.ledger.Stalled(now, grace)
}
