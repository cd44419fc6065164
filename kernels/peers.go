package kernels

import "slices"

// Peers moves vectors between devices of one machine, one vector on each, all of one
// length n. Vector k owns the range Shard(n, len(vectors), k).
//
// Together the first two methods set every vector to their sum. They are apart so that an
// optimizer whose state is spread over the devices can do its step between them: each
// device updates the range that it owns, and parameters are gathered, not gradients.
//
// Operations that were queued on the vectors' devices before a call come before it, and
// those that are queued after it come after.
type Peers interface {
	// ReduceScatter sets the range that vector k owns to the sum of all vectors' values
	// there, added in the order k, k+1, ... around. The rest of each is left as it is.
	ReduceScatter(vectors []Buffer)
	// AllGather copies the range that vector k owns to every other vector.
	AllGather(vectors []Buffer)
	// Broadcast copies vector 0 to every other vector.
	Broadcast(vectors []Buffer)
}

// shardAlign is in values: a range begins at a multiple of 256 bytes.
const shardAlign = 64

// Shard is the range of n values that number k of count owns. The ranges are in order and
// disjoint and cover all values; the last ones may be shorter, or empty.
func Shard(n, count, k int) (lo, hi int) {
	size := pieces(pieces(n, count), shardAlign) * shardAlign
	return min(k*size, n), min((k+1)*size, n)
}

// chunk returns n values, in s where it has them.
func chunk(s []float32, n int) []float32 { return slices.Grow(s[:0], n)[:n] }

// HostPeers are the Peers of any devices: every value goes through the host.
type HostPeers struct {
	devices    []Device
	sum, other []float32
}

var _ Peers = (*HostPeers)(nil)

// hostPeersChunk is how many values of a vector are on the host at once.
const hostPeersChunk = 1 << 20

// NewHostPeers returns the Peers of vectors that lie on these devices, one on each.
func NewHostPeers(devices []Device) *HostPeers { return &HostPeers{devices: devices} }

// ReduceScatter implements Peers.
func (p *HostPeers) ReduceScatter(vectors []Buffer) {
	p.chunks(vectors, func(k, lo, hi int) {
		p.devices[k].Download(p.sum[:hi-lo], vectors[k].Slice(lo, hi))
		for i := 1; i < len(vectors); i++ {
			from := (k + i) % len(vectors)
			p.devices[from].Download(p.other[:hi-lo], vectors[from].Slice(lo, hi))
			for i, v := range p.other[:hi-lo] {
				p.sum[i] += v
			}
		}
		p.devices[k].Upload(vectors[k].Slice(lo, hi), p.sum[:hi-lo])
	})
}

// AllGather implements Peers.
func (p *HostPeers) AllGather(vectors []Buffer) {
	p.chunks(vectors, func(k, lo, hi int) {
		p.devices[k].Download(p.sum[:hi-lo], vectors[k].Slice(lo, hi))
		for to := range vectors {
			if to != k {
				p.devices[to].Upload(vectors[to].Slice(lo, hi), p.sum[:hi-lo])
			}
		}
	})
}

// Broadcast implements Peers.
func (p *HostPeers) Broadcast(vectors []Buffer) {
	n := vectors[0].Len()
	for lo := 0; lo < n; lo += hostPeersChunk {
		hi := min(lo+hostPeersChunk, n)
		p.sum = chunk(p.sum, hi-lo)
		p.devices[0].Download(p.sum[:hi-lo], vectors[0].Slice(lo, hi))
		for to := 1; to < len(vectors); to++ {
			CheckSame("peers", "vector", vectors[to].Len(), n)
			p.devices[to].Upload(vectors[to].Slice(lo, hi), p.sum[:hi-lo])
		}
	}
}

// chunks calls f for every piece of every vector's own range.
func (p *HostPeers) chunks(vectors []Buffer, f func(k, lo, hi int)) {
	n := vectors[0].Len()
	for k, v := range vectors {
		CheckSame("peers", "vector", v.Len(), n)
		lo, end := Shard(n, len(vectors), k)
		for ; lo < end; lo += hostPeersChunk {
			hi := min(lo+hostPeersChunk, end)
			p.sum, p.other = chunk(p.sum, hi-lo), chunk(p.other, hi-lo)
			f(k, lo, hi)
		}
	}
}
