package mesh

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// LaneMax is the highest lane.
const LaneMax = 1<<16 - 1

// laneWait is how long a stream waits for the heartbeat that says that its opener is of
// the lane.
const laneWait = 10 * time.Second

// Lane puts this peer into a lane of m, from 1 to LaneMax, and returns the mesh of that
// lane's members: View shows no others, Open reaches no others, and Handle hears no
// others, under protocols of the lane's own. In it members look as in a mesh of their own,
// in lane 0. What m itself announces later must name the lane, or this peer leaves it.
//
// Lane 0 is everybody's: it is m, and changes nothing. A lane has no lanes.
func Lane(m Mesh, number int) Mesh {
	if number == 0 {
		return m
	}
	if _, nested := m.(*lane); nested || number < 0 || number > LaneMax {
		panic(fmt.Sprintf("mesh: lane %d of %T: want 0 to %d, and no lane of a lane", number, m, LaneMax))
	}
	l := &lane{mesh: m, number: number}
	members, _ := m.View()
	for _, own := range members {
		if own.ID == m.Self() {
			l.Announce(own.Status)
		}
	}
	return l
}

// lane implements [Mesh].
type lane struct {
	mesh   Mesh
	number int
}

func (l *lane) Self() ID { return l.mesh.Self() }

func (l *lane) View() ([]Member, <-chan struct{}) {
	members, changed := l.mesh.View()
	members = slices.DeleteFunc(members, func(m Member) bool { return m.Lane != l.number && m.ID != l.mesh.Self() })
	for i := range members {
		members[i].Lane = 0
	}
	return members, changed
}

func (l *lane) Announce(s Status) {
	s.Lane = l.number
	l.mesh.Announce(s)
}

func (l *lane) Open(ctx context.Context, to ID, protocol string) (Stream, error) {
	if known, _ := l.has(to); !known {
		return nil, fmt.Errorf("mesh: open %s to %s: no member of lane %d", protocol, to, l.number)
	}
	return l.mesh.Open(ctx, to, l.name(protocol))
}

func (l *lane) Handle(protocol string, h func(from ID, s Stream)) {
	if h == nil {
		l.mesh.Handle(l.name(protocol), nil)
		return
	}
	l.mesh.Handle(l.name(protocol), func(from ID, s Stream) {
		if !l.await(from) {
			_ = s.Reset()
			return
		}
		h(from, s)
	})
}

func (l *lane) name(protocol string) string { return fmt.Sprintf("lane-%d/%s", l.number, protocol) }

// has reports whether a peer is in the lane's view, and gives its channel.
func (l *lane) has(id ID) (known bool, changed <-chan struct{}) {
	members, changed := l.View()
	return slices.ContainsFunc(members, func(m Member) bool { return m.ID == id }), changed
}

// await waits until a peer is in the lane's view: its stream may be faster than its
// heartbeat.
func (l *lane) await(id ID) bool {
	late := time.NewTimer(laneWait)
	defer late.Stop()
	for {
		known, changed := l.has(id)
		if known {
			return true
		}
		select {
		case <-changed:
		case <-late.C:
			return false
		}
	}
}
