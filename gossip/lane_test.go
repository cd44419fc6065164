package gossip

import (
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh"
	"loco/mesh/meshtest"
	"loco/mesh/sim"
)

// Two lanes of one mesh have rounds of their own, at the same time, under the same numbers.
func TestLanesHaveRoundsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, length = 5, 1000
		opts := sim.Options{Peers: n, Latency: 20 * time.Millisecond}
		var meshes [n]mesh.Mesh
		c := newCluster(t, opts, "fp32", func(i int, cfg *Config) {
			meshes[i] = mesh.Lane(cfg.Mesh, 1+i%2)
			cfg.Mesh = meshes[i]
		})
		defer c.close()
		lanes := [][]int{{0, 2, 4}, {1, 3}}
		for i, m := range meshes {
			meshtest.Await(t, m, "want its lane", func(ms []mesh.Member) bool { return len(ms) == len(lanes[i%2]) })
		}
		for round := range uint64(3) {
			start := time.Now()
			res := c.average(round, length, upTo(n), nil)
			if took := time.Since(start); took >= testGrace {
				t.Errorf("round %d took %v: it waited for the other lane", round, took)
			}
			for _, members := range lanes {
				own := map[int]got{}
				for _, i := range members {
					own[i] = res[i]
				}
				checkAveraged(t, mustCodec(t, "fp32"), own, round, length, members)
			}
		}
	})
}
