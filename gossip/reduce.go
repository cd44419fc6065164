package gossip

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"loco/gossip/codec"
	"loco/mesh"
)

// plan is what a reduction works on.
type plan struct {
	round   uint64
	number  uint32 // of the frames
	members []groupMember
	self    int     // index in members; −1 when only downloading
	source  mesh.ID // whose complete result is downloaded; "": reduce
	length  int     // values
}

// reduction is the data plane of one attempt: a butterfly in two hops.
//
//	mean = Σᵢ wᵢ·xᵢ / Σᵢ wᵢ
//
// is formed by the owner of each shard in float32: it starts from 0 and adds
// float32(wᵢ/Σw)·decoded(xᵢ) for i ascending by worker, whatever the order of arrival,
// with Σw and the quotient in float64. The sum is encoded once; the hash of a result
// is the SHA-256 of the whole encoded vector.
type reduction struct {
	plan
	codec   codec.Codec
	links   *links
	vec     []float32 // read only, until join returns
	weights []float32
	shards  []span
	onDone  func(number uint32, hash [32]byte)
	onFail  func(number uint32, who mesh.ID, why string)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	encodeTime, decodeTime atomic.Int64
	sent, received         atomic.Uint64

	mu       sync.Mutex
	stopped  bool
	result   []byte // the encoded mean
	have     [][]bool
	missing  int        // chunks of the result
	slots    [][][]byte // own shard: [chunk][member] contributions
	left     []int      // own shard: contributions that each chunk lacks
	reduced  []bool     // own shard
	news     chan struct{}
	progress []time.Time // of each member
}

func newReduction(p plan, c codec.Codec, l *links, vec []float32, result []byte) *reduction {
	r := &reduction{plan: p, codec: c, links: l, vec: vec, news: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(l.ctx)
	n := c.EncodedLen(p.length)
	if cap(result) < n {
		result = make([]byte, n)
	}
	r.result = result[:n]
	if p.source != "" {
		r.shards = []span{{0, p.length}}
		r.progress = make([]time.Time, 1)
	} else {
		r.shards = shards(p.length, len(p.members))
		r.progress = make([]time.Time, len(p.members))
		total := 0.0
		for _, g := range p.members {
			total += g.weight
		}
		for _, g := range p.members {
			r.weights = append(r.weights, float32(g.weight/total))
		}
		own := r.shards[p.self].chunks()
		r.reduced, r.left, r.slots = make([]bool, own), make([]int, own), make([][][]byte, own)
		for c := range own {
			r.left[c], r.slots[c] = len(p.members), make([][]byte, len(p.members))
		}
	}
	for _, s := range r.shards {
		r.have = append(r.have, make([]bool, s.chunks()))
		r.missing += s.chunks()
	}
	return r
}

// begin starts to send. A download only waits.
func (r *reduction) begin(now time.Time) {
	for i := range r.progress {
		r.progress[i] = now
	}
	if r.source != "" {
		return
	}
	for j := range r.members {
		if j == r.self {
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

// encode times the codec.
func (r *reduction) encode(dst []byte, s span) ([]byte, error) {
	start := time.Now()
	dst, err := r.codec.AppendEncode(dst, r.vec[s.lo:s.hi])
	r.encodeTime.Add(int64(time.Since(start)))
	return dst, err
}

func (r *reduction) contributeOwn() {
	for c := range r.slots {
		s := r.shards[r.self].chunk(c)
		payload, err := r.encode(r.links.buffer(r.codec.EncodedLen(s.hi - s.lo))[:0], s)
		if err != nil {
			r.onFail(r.number, r.members[r.self].id, err.Error())
			return
		}
		if err := r.contribute(r.self, c, payload); err != nil || r.ctx.Err() != nil {
			return
		}
	}
}

// sendTo sends member j its shard of this worker's vector, then this worker's shard
// of the result, chunk by chunk as it forms.
func (r *reduction) sendTo(j int) {
	to := r.members[j].id
	longest := min(chunkValues, r.shards[j].hi-r.shards[j].lo)
	buf := r.links.buffer(r.codec.EncodedLen(longest))
	defer func() { r.links.recycle(buf) }()
	for c := range r.shards[j].chunks() {
		s := r.shards[j].chunk(c)
		payload, err := r.encode(buf[:0], s)
		if err == nil {
			err = r.write(r.ctx, to, typeContribution, j, c, s, payload)
		}
		if err != nil {
			r.failed(to, err)
			return
		}
	}
	for c := range r.slots {
		if !r.awaitReduced(c) {
			return
		}
		s := r.shards[r.self].chunk(c)
		if err := r.write(r.ctx, to, typeResult, r.self, c, s, r.encoded(s)); err != nil {
			r.failed(to, err)
			return
		}
	}
}

func (r *reduction) failed(who mesh.ID, err error) {
	if r.ctx.Err() == nil {
		r.onFail(r.number, who, fmt.Sprintf("takes no data: %v", err))
	}
}

func (r *reduction) awaitReduced(c int) bool {
	for {
		r.mu.Lock()
		ok, news := r.reduced[c], r.news
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

// encoded is the result's bytes of the values s.
func (r *reduction) encoded(s span) []byte {
	lo := r.codec.EncodedLen(s.lo)
	return r.result[lo : lo+r.codec.EncodedLen(s.hi-s.lo)]
}

func (r *reduction) write(ctx context.Context, to mesh.ID, t frameType, shard, chunk int, s span, payload []byte) error {
	h := header{Type: t, Round: r.round, Attempt: r.number, Shard: uint32(shard), Chunk: uint32(chunk), Count: uint32(s.hi - s.lo)}
	if r.self >= 0 {
		h.Worker = uint32(r.members[r.self].worker)
	}
	err := r.links.writeData(ctx, to, h, payload)
	if err == nil {
		r.sent.Add(uint64(headerLen + len(payload)))
	}
	return err
}

// accept takes a data frame of this attempt. An error names what the sender did
// wrong.
func (r *reduction) accept(now time.Time, from mesh.ID, h header, payload []byte) (keep bool, err error) {
	member := 0
	if r.source != "" {
		if from != r.source || h.Type != typeResult {
			return false, nil // left over from before
		}
	} else if member = r.index(from); member < 0 || uint32(r.members[member].worker) != h.Worker {
		return false, fmt.Errorf("data of attempt %d from worker %d, which is not in it", h.Attempt, h.Worker)
	}
	shard := int(h.Shard)
	if shard >= len(r.shards) || int(h.Chunk) >= len(r.have[shard]) {
		return false, fmt.Errorf("data of shard %d, chunk %d, which do not exist", h.Shard, h.Chunk)
	}
	s := r.shards[shard].chunk(int(h.Chunk))
	if want := r.codec.EncodedLen(s.hi - s.lo); int(h.Count) != s.hi-s.lo || len(payload) != want {
		return false, fmt.Errorf("%d values in %d bytes of shard %d, chunk %d, want %d in %d", h.Count, len(payload), shard, h.Chunk, s.hi-s.lo, want)
	}
	r.received.Add(uint64(headerLen + len(payload)))
	r.mu.Lock()
	r.progress[member] = now
	r.mu.Unlock()
	if h.Type == typeResult {
		if r.source == "" && shard != member {
			return false, fmt.Errorf("result of shard %d, which belongs to another", shard)
		}
		return false, r.takeResult(shard, int(h.Chunk), s, payload)
	}
	if shard != r.self {
		return false, fmt.Errorf("contribution to shard %d, which belongs to another", shard)
	}
	return true, r.contribute(member, int(h.Chunk), payload)
}

func (r *reduction) index(id mesh.ID) int {
	for i, g := range r.members {
		if g.id == id {
			return i
		}
	}
	return -1
}

// takeResult stores an owner's bytes after a look at whether they decode.
func (r *reduction) takeResult(shard, chunk int, s span, payload []byte) error {
	start := time.Now()
	err := r.codec.Check(s.hi-s.lo, payload)
	r.decodeTime.Add(int64(time.Since(start)))
	if err != nil {
		return err
	}
	r.mu.Lock()
	if r.stopped || r.have[shard][chunk] {
		r.mu.Unlock()
		return nil
	}
	copy(r.encoded(s), payload)
	r.mu.Unlock()
	r.finishChunk(shard, chunk)
	return nil
}

// contribute files member j's encoding of a chunk of the own shard and reduces the
// chunk when all are there.
func (r *reduction) contribute(j, c int, payload []byte) error {
	r.mu.Lock()
	if r.stopped || r.slots[c] == nil || r.slots[c][j] != nil {
		r.mu.Unlock()
		return nil
	}
	r.slots[c][j] = payload
	r.left[c]--
	slots, full := r.slots[c], r.left[c] == 0
	r.mu.Unlock()
	if full {
		r.reduceChunk(c, slots)
	}
	return nil
}

// reduceChunk forms and encodes one chunk of the mean.
func (r *reduction) reduceChunk(c int, slots [][]byte) {
	start := time.Now()
	s := r.shards[r.self].chunk(c)
	sum := r.links.values(s.hi - s.lo)
	defer r.links.recycleValues(sum)
	clear(sum)
	for j, payload := range slots {
		if err := r.codec.DecodeAdd(sum, payload, r.weights[j]); err != nil {
			r.onFail(r.number, r.members[j].id, err.Error())
			return
		}
	}
	r.decodeTime.Add(int64(time.Since(start)))
	start = time.Now()
	out := r.encoded(s)
	if _, err := r.codec.AppendEncode(out[:0:len(out)], sum); err != nil {
		j := r.largest(slots, len(sum))
		r.onFail(r.number, r.members[j].id, "its values overflow the mean")
		return
	}
	r.encodeTime.Add(int64(time.Since(start)))
	for _, payload := range slots {
		r.links.recycle(payload)
	}
	r.mu.Lock()
	r.slots[c], r.reduced[c] = nil, true
	close(r.news)
	r.news = make(chan struct{})
	r.mu.Unlock()
	r.finishChunk(r.self, c)
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
	full := false
	if !r.have[shard][chunk] {
		r.have[shard][chunk] = true
		r.missing--
		full = r.missing == 0 && !r.stopped
	}
	r.mu.Unlock()
	if full {
		r.onDone(r.number, sha256.Sum256(r.result))
	}
}

// stalled names a member that has sent nothing for Grace while its share of the own
// shard is missing, or an owner that has for twice as long while its result is: an
// owner may itself be waiting for the former.
func (r *reduction) stalled(now time.Time, grace time.Duration) (who mesh.ID, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.missing == 0 {
		return "", ""
	}
	if r.source != "" {
		if now.Sub(r.progress[0]) >= grace {
			return r.source, fmt.Sprintf("silent: sent nothing of its result for %v", grace)
		}
		return "", ""
	}
	for _, slots := range r.slots {
		for j := range slots {
			if slots[j] == nil && j != r.self && now.Sub(r.progress[j]) >= grace {
				return r.members[j].id, fmt.Sprintf("silent: sent nothing of its vector for %v", grace)
			}
		}
	}
	for j, chunks := range r.have {
		for _, ok := range chunks {
			if !ok && j != r.self && now.Sub(r.progress[j]) >= 2*grace {
				return r.members[j].id, fmt.Sprintf("silent: sent nothing of its result for %v", 2*grace)
			}
		}
	}
	return "", ""
}
