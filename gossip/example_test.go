package gossip_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"loco/gossip"
	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/mesh"
	"loco/mesh/sim"
)

// Three workers average a vector, each with its weight, over a network in memory.
func ExampleAllReduce() {
	net := sim.New(3)
	defer net.Close()
	var peers []*gossip.AllReduce
	for i := range 3 {
		net.Peer(i).Announce(mesh.Status{Worker: i, Ready: true})
		a, err := gossip.NewAllReduce(gossip.Config{
			Mesh: net.Peer(i), Worker: i, Codec: codec.FP32,
			Waits:  gossip.Waits{Deadline: time.Minute, Grace: 10 * time.Second},
			Quorum: 3, // of a run of three: the first round waits for all
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer a.Close()
		peers = append(peers, a)
	}
	var wg sync.WaitGroup
	for i, a := range peers {
		wg.Go(func() {
			bytes, _ := codec.FP32.AppendEncode(nil, []float32{float32(i), 10})
			out, err := a.Average(context.Background(), 0, exchange.Delta, exchange.Vector{Values: 2, Bytes: bytes}, float64(1+i), exchange.Base{})
			if err != nil || i > 0 { // all have the same
				return
			}
			mean := make([]float32, 2)
			_ = codec.FP32.Decode(mean, out.Mean[0].Bytes)
			fmt.Printf("mean %.3v of workers %v\n", mean, out.Members)
		})
	}
	wg.Wait()
	// Output: mean [1.33 10] of workers [0 1 2]
}
