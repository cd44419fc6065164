package gossip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/kernels"
	"loco/mesh/sim"
)

// sparse is a codec that is as unlike the product's as the seam allows: blocks of 100 values, of which
// those that are not 0 travel with their index, so that lengths vary; and contributions become, at each
// place, the mean over those that sent something there, in this form or in dense float32.
type sparse struct{ dense bool }

const sparseBlock = 100

func (sparse) Name() string           { return "sparse" }
func (sparse) Format() kernels.Format { return kernels.FormatFP32 }
func (sparse) Block() int             { return sparseBlock }
func (sparse) Fixed() bool            { return false }
func (sparse) EncodedLen(n int) int   { return (n+sparseBlock-1)/sparseBlock + 5*n }

func (s sparse) Down() codec.Codec {
	if s.dense {
		return wideFP32{codec.FP32}
	}
	return s
}

func (s sparse) NewSum() codec.Sum { return &senders{up: s} }

func (sparse) AppendEncode(dst []byte, src []float32) ([]byte, error) {
	for block := range slices.Chunk(src, sparseBlock) {
		at := len(dst)
		dst = append(dst, 0)
		for i, x := range block {
			if x-x != 0 {
				return dst[:at], fmt.Errorf("value %d is %v", i, x)
			}
			if x != 0 {
				dst[at]++
				dst = binary.LittleEndian.AppendUint32(append(dst, byte(i)), math.Float32bits(x))
			}
		}
	}
	return dst, nil
}

// blockLen is the length of the encoding of a block, 0 where it is cut short.
func (sparse) blockLen(src []byte) int {
	if len(src) == 0 || len(src) < 1+5*int(src[0]) {
		return 0
	}
	return 1 + 5*int(src[0])
}

func (s sparse) Cut(encoded []byte, lo, hi int) []byte {
	at := [2]int{}
	for i, value := range []int{lo, hi} {
		for b := 0; b*sparseBlock < value; b++ {
			at[i] += s.blockLen(encoded[at[i]:])
		}
	}
	return encoded[at[0]:at[1]]
}

func (s sparse) each(n int, src []byte, f func(i int, x float32)) error {
	for lo := 0; lo < n; lo += sparseBlock {
		size := s.blockLen(src)
		if size == 0 {
			return errors.New("codec sparse: cut short")
		}
		for p := src[1:size]; len(p) > 0; p = p[5:] {
			i, x := lo+int(p[0]), math.Float32frombits(binary.LittleEndian.Uint32(p[1:]))
			if int(p[0]) >= sparseBlock || i >= n || x-x != 0 {
				return fmt.Errorf("codec sparse: value %d is %v", i, x)
			}
			f(i, x)
		}
		src = src[size:]
	}
	if len(src) > 0 {
		return fmt.Errorf("codec sparse: %d bytes too many", len(src))
	}
	return nil
}

func (s sparse) Check(n int, src []byte) error { return s.each(n, src, func(int, float32) {}) }

func (s sparse) Decode(dst []float32, src []byte) error {
	clear(dst)
	return s.each(len(dst), src, func(i int, x float32) { dst[i] = x })
}

func (s sparse) DecodeAdd(dst []float32, src []byte, weight float32) error {
	return s.each(len(dst), src, func(i int, x float32) { dst[i] += weight * x })
}

// senders is the mean at each place over those that sent something there.
type senders struct {
	up     sparse
	values []float32
	weight []float32
}

func (m *senders) Begin(n int) { m.values, m.weight = make([]float32, n), make([]float32, n) }

func (m *senders) Add(p []byte, share float32) error {
	return m.up.each(len(m.values), p, func(i int, x float32) { m.values[i] += share * x; m.weight[i] += share })
}

func (m *senders) AppendResult(dst []byte) ([]byte, error) {
	for i, w := range m.weight {
		if w > 0 {
			m.values[i] /= w
		}
	}
	return m.up.Down().AppendEncode(dst, m.values)
}

// wideFP32 is fp32 that is cut at the blocks of sparse.
type wideFP32 struct{ codec.Codec }

func (wideFP32) Block() int { return sparseBlock }

// thinned is a worker's vector, of which a third is there, each worker another.
func thinned(worker int, n int) []float32 {
	x := vector(worker, 1, n)
	for i := range x {
		if (i/7+worker)%3 > 0 {
			x[i] = 0
		}
	}
	return x
}

// What contributions become is the codec's affair: lengths vary, blocks are not 256 values, results
// have another form than contributions, and the mean is no plain one. A worker that comes late is
// served the result in the same chunks.
func TestCodecSaysWhatContributionsBecome(t *testing.T) {
	const workers = 3
	for _, dense := range []bool{true, false} {
		for _, n := range []int{1, 100, 250, 70_001, 140_050} {
			t.Run(fmt.Sprint(dense, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					up := sparse{dense}
					c := newCluster(t, sim.Options{Seed: 1, Peers: workers}, "fp32", func(_ int, cfg *Config) { cfg.Codec = up })
					defer c.close()
					out := c.averageEncoded(t, up, n)
					want, total := make([]float32, n), make([]float32, n)
					for i := range workers {
						share := float32(float64(i+1) / 6)
						for k, x := range thinned(i, n) {
							if x != 0 {
								want[k] += share * x
								total[k] += share
							}
						}
					}
					for k, w := range total {
						if w > 0 {
							want[k] /= w
						}
					}
					encoded, err := up.Down().AppendEncode(nil, want)
					if err != nil {
						t.Fatal(err)
					}
					for i, o := range out {
						if len(o.Members) != workers || len(o.Mean) != 1 || !slices.Equal(o.Mean[0].Bytes, encoded) {
							t.Errorf("worker %d: members %v, %d bytes of a mean of %d, equal %v", i, o.Members, len(o.Mean[0].Bytes), len(encoded), slices.Equal(o.Mean[0].Bytes, encoded))
						}
					}
				})
			})
		}
	}
}

// averageEncoded lets all workers average their thinned vectors.
func (c *cluster) averageEncoded(t *testing.T, up codec.Codec, n int) []exchange.Outcome {
	out := make([]exchange.Outcome, len(c.peers))
	var wg sync.WaitGroup
	for i := range c.peers {
		wg.Go(func() {
			encoded, err := up.AppendEncode(nil, thinned(i, n))
			if err == nil {
				out[i], err = c.peers[i].Average(context.Background(), 1, exchange.Delta, exchange.Vector{Values: n, Bytes: encoded}, float64(i+1), exchange.Base{})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return out
}

// A pair exchanges encodings whose lengths vary, too.
func TestPairsOfVaryingLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 140_050
		up := sparse{}
		c := newPairCluster(t, sim.Options{Seed: 1, Peers: 2}, func(_ int, cfg *Config) { cfg.Codec = up })
		defer c.close()
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				mine, err := up.AppendEncode(nil, thinned(i, n))
				if err != nil {
					t.Error(err)
				}
				theirs, _ := up.AppendEncode(nil, thinned(1-i, n))
				out, err := c.peers[i].Average(context.Background(), 1, exchange.Delta, exchange.Vector{Values: n, Bytes: mine}, 1, exchange.Base{})
				if err != nil || len(out.Mean) != 2 {
					t.Errorf("worker %d: %+v, %v", i, out, err)
					return
				}
				pair := [][]byte{out.Mean[i].Bytes, out.Mean[1-i].Bytes}
				if !slices.Equal(pair[0], mine) || !slices.Equal(pair[1], theirs) {
					t.Errorf("worker %d has other bytes than the pair sent", i)
				}
			})
		}
		wg.Wait()
	})
}
