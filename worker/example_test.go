package worker

import (
	"context"
	"fmt"
	"sync"

	"loco/mesh/sim"
)

// Two workers over a mesh in memory train together and end with the same weights.
func Example() {
	net := sim.New(2)
	defer net.Close()
	var group sync.WaitGroup
	var digests [2]string
	for number := range 2 {
		group.Go(func() {
			w, err := New(testConfig(number), net.Peer(number), newToy(number), Hooks{})
			if err != nil {
				fmt.Println(err)
				return
			}
			defer w.Close()
			ctx := context.Background()
			if err := w.Enter(ctx); err != nil {
				fmt.Println(err)
				return
			}
			err = w.Train(ctx, nil)
			w.Depart(ctx, err == nil)
			digests[number] = w.Trainer().SlowDigest()
		})
	}
	group.Wait()
	fmt.Println("the same weights:", digests[0] == digests[1])
	// Output: the same weights: true
}
