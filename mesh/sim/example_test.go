package sim_test

import (
	"context"
	"fmt"
	"io"

	"loco/mesh"
	"loco/mesh/sim"
)

// Two peers of a network in memory: one opens a stream to the other, which answers.
func Example() {
	net := sim.New(2)
	defer net.Close()
	a, b := net.Peer(0), net.Peer(1)
	b.Handle("/greet/1", func(from mesh.ID, s mesh.Stream) {
		defer s.Close()
		fmt.Fprintf(s, "hello %s", from)
	})
	s, err := a.Open(context.Background(), b.Self(), "/greet/1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	answer, err := io.ReadAll(s)
	fmt.Println(string(answer), err)
	// Output: hello peer-000 <nil>
}
