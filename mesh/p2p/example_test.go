package p2p_test

import (
	"context"
	"fmt"
	"log"

	"loco/mesh/p2p"
)

// Two workers of one run on one machine: the second joins through the first.
func Example() {
	config := p2p.Default()
	config.RunID = "5ca1ab1e5ca1ab1e" // the hash of the run's configuration
	first, err := p2p.New(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close()

	config.Worker, config.Bootstrap = 1, first.Addrs()
	second, err := p2p.New(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	defer second.Leave(context.Background())

	members, _ := second.View()
	for _, m := range members {
		fmt.Printf("worker %d is %s\n", m.Worker, m.State)
	}
	// Output:
	// worker 0 is joining
	// worker 1 is joining
}
