package mesh_test

import (
	"context"
	"fmt"
	"io"

	"loco/mesh"
	"loco/mesh/sim"
)

// Two members of a mesh in memory: one answers what the other asks.
func Example() {
	net := sim.New(2)
	defer net.Close()
	var first, second mesh.Mesh = net.Peer(0), net.Peer(1)

	first.Handle("greet/1.0.0", func(from mesh.ID, s mesh.Stream) {
		defer s.Close()
		fmt.Fprintf(s, "hello, %s", from)
	})
	s, err := second.Open(context.Background(), first.Self(), "greet/1.0.0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	answer, err := io.ReadAll(s)
	fmt.Printf("%s %v\n", answer, err)
	// Output:
	// hello, peer-001 <nil>
}

// The stages of a pipeline are lanes: the first has two members here, the second one.
func ExampleLane() {
	net := sim.New(3)
	defer net.Close()
	stages := []mesh.Mesh{mesh.Lane(net.Peer(0), 1), mesh.Lane(net.Peer(1), 2), mesh.Lane(net.Peer(2), 1)}
	for _, m := range stages {
		for {
			members, changed := m.View()
			if len(members) == 2 || m == stages[1] {
				fmt.Printf("%s sees %d\n", m.Self(), len(members))
				break
			}
			<-changed
		}
	}
	// Output:
	// peer-000 sees 2
	// peer-001 sees 1
	// peer-002 sees 2
}
