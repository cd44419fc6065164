package cpu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"loco/kernels"
)

// codecWork is one of the things that the codec of int8 does to a run of values.
type codecWork struct {
	name string
	// bytes is what one value moves between the processor and memory.
	bytes float64
	// chunk is the number of values in a call; 0 is all.
	chunk int
	do    func(p *path, sum, x []float32, wire []byte)
	limit func(p *path, sum, x []float32, wire []byte)
}

const (
	wireBytes = 1 + 4.0/kernels.CodecBlock // of a value in int8
	// gossipChunk is the number of values that package gossip encodes at a time.
	gossipChunk = 1 << 16
)

func encodeWork(p *path, _, x []float32, wire []byte)      { p.encode(kernels.FormatInt8, wire, x) }
func encodeLimit(p *path, _, x []float32, wire []byte)     { p.streamEncode(wire, x) }
func encodePastLimit(p *path, _, x []float32, wire []byte) { p.streamEncodePast(wire, x) }
func addLimit(p *path, sum, _ []float32, wire []byte)      { p.streamAdd(sum, wire) }
func addUncheckedWork(p *path, sum, _ []float32, w []byte) {
	p.decodeAdd(kernels.FormatInt8, sum, w, 0.25)
}
func addCheckedWork(p *path, sum, x []float32, wire []byte) {
	if p.check(kernels.FormatInt8, len(sum), wire) >= 0 {
		panic("what was encoded is found unsound")
	}
	addUncheckedWork(p, sum, x, wire)
}

var codecWorks = []codecWork{
	{"encode/whole", 4 + wireBytes, 0, encodeWork, encodeLimit},
	{"encode/whole, past caches", 4 + wireBytes, 0, encodeWork, encodePastLimit},
	{"encode/chunks", 4 + wireBytes, gossipChunk, encodeWork, encodeLimit},
	{"add/whole", 8 + wireBytes, 0, addUncheckedWork, addLimit},
	{"check+add/chunks", 8 + wireBytes, gossipChunk, addCheckedWork, addLimit},
	{"check+add/whole", 8 + wireBytes, 0, addCheckedWork, addLimit},
}

// BenchmarkCodecMemory runs int8 on 100M values, and on a chunk that stays in a cache,
// beside a loop that touches the same memory in the same order and does nothing else.
// The two take turns at every segment of a vector, half a vector apart, so that neither
// finds what the other has left in a cache, and another process that takes memory or time
// away takes it from both. It reports the medians of their rates, and of the ratio of
// each pair.
func BenchmarkCodecMemory(b *testing.B) {
	if testing.Short() {
		b.Skip("takes a gigabyte")
	}
	const (
		most    = 100_000_000 / kernels.CodecBlock * kernels.CodecBlock
		segment = most / 3 / 8192 * 8192 // the half of its bytes, too, goes past the caches, from a whole line
	)
	x, sum := floats(most), floats(most)
	wire := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(floats(most/3)))), kernels.FormatInt8.EncodedLen(most))
	r := rand.New(rand.NewPCG(1, 1))
	for i := range x {
		x[i] = float32(int32(r.Uint32()))
	}
	for _, p := range assembly(b) {
		for _, w := range codecWorks {
			for _, threads := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%s/threads=%d", p.name, w.name, threads), func(b *testing.B) {
					c := comparison{p, w, threads, segment, 1, sum, x, wire}
					c.run(b)
				})
			}
			if w.chunk > 0 {
				b.Run(fmt.Sprintf("%s/%s/cached", p.name, w.name), func(b *testing.B) {
					end := kernels.FormatInt8.EncodedLen(2 * w.chunk)
					c := comparison{p, w, 1, w.chunk, 50, sum[:2*w.chunk], x[:2*w.chunk], wire[:end]}
					c.run(b)
				})
			}
		}
	}
}

// comparison times a work and its limit.
type comparison struct {
	p                        *path
	w                        codecWork
	threads, segment, repeat int
	sum, x                   []float32
	wire                     []byte
}

func (c *comparison) run(b *testing.B) {
	codecPath.encode(kernels.FormatInt8, c.wire, c.x) // encode's limit leaves anything there
	segments := len(c.x) / c.segment
	var limits, works, ratios []float64
	for b.Loop() {
		for s := range segments {
			limit := c.time(c.w.limit, s)
			work := c.time(c.w.do, (s+segments/2)%segments)
			limits, works, ratios = append(limits, limit), append(works, work), append(ratios, limit/work)
		}
	}
	rate := func(seconds []float64) float64 {
		return c.w.bytes * float64(c.segment*c.repeat) / median(seconds) / 1e9
	}
	b.ReportMetric(rate(works), "GB/s")
	b.ReportMetric(rate(limits), "limit-GB/s")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(0, "ns/op")
}

// time returns the seconds that f takes for a segment, of which each thread has a part.
func (c *comparison) time(f func(p *path, sum, x []float32, wire []byte), segment int) float64 {
	part := func(thread int) {
		lo := segment*c.segment + c.segment/c.threads*thread
		hi := lo + c.segment/c.threads
		step := c.w.chunk
		if step == 0 {
			step = hi - lo
		}
		for range c.repeat {
			for at := lo; at < hi; at += step {
				end := min(at+step, hi)
				f(c.p, c.sum[at:end], c.x[at:end], c.wire[kernels.FormatInt8.EncodedLen(at):kernels.FormatInt8.EncodedLen(end)])
			}
		}
	}
	start := time.Now()
	var others sync.WaitGroup
	for thread := 1; thread < c.threads; thread++ {
		others.Go(func() { part(thread) })
	}
	part(0)
	others.Wait()
	return time.Since(start).Seconds()
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
