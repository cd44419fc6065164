package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"loco/mesh"
	"loco/mesh/swim"
)

// maxGossipBytes bounds one message between two peers of the gossip: a heartbeat
// with its signature, or lists of the IDs of heartbeats.
const maxGossipBytes = 64 << 10

// gossip is the run's heartbeat topic.
type gossip struct {
	topic *pubsub.Topic
	sub   *pubsub.Subscription
}

// relays says how heartbeats get to members that are not connected to their author. The
// author itself sends them to all that are, so most copies that are passed on are
// superfluous, and few neighbors do: a random graph in which each member has three holds
// together when some are gone. libp2p's defaults, 6 neighbors and lists of what there is to
// a quarter of all others each second, cost twice as much with 40 members, and the cost
// grows by the square.
func relays() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.D, p.Dlo, p.Dhi, p.Dscore, p.Dout = 4, 3, 8, 3, 1
	p.Dlazy, p.GossipFactor = 3, 0
	return p
}

func (m *Mesh) startGossip() error {
	ps, err := pubsub.NewGossipSub(m.ctx, m.host,
		pubsub.WithMaxMessageSize(maxGossipBytes),
		pubsub.WithMessageSignaturePolicy(pubsub.StrictSign),
		pubsub.WithGossipSubParams(relays()),
		pubsub.WithFloodPublish(true), // own heartbeats go to all that are connected, at once
		pubsub.WithLogger(slog.New(slog.DiscardHandler)),
		pubsub.WithAppSpecificRpcInspector(func(from peer.ID, rpc *pubsub.RPC) error {
			if len(rpc.GetPublish()) > 0 && !m.passed(from) {
				return errors.New("p2p: gossip of a peer that has not passed a hello")
			}
			return nil
		}))
	if err != nil {
		return fmt.Errorf("p2p: gossip: %w", err)
	}
	name := m.prefix + "status/1.0.0"
	check := func(_ context.Context, _ peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
		beat, err := ParseHeartbeat(msg.Data)
		if err != nil {
			m.log.Warn("heartbeat refused", "peer", msg.GetFrom().String(), "via", msg.ReceivedFrom.String(), "error", err)
			return pubsub.ValidationReject
		}
		msg.ValidatorData = beat
		return pubsub.ValidationAccept
	}
	if err := ps.RegisterTopicValidator(name, check, pubsub.WithValidatorInline(true)); err != nil {
		return fmt.Errorf("p2p: gossip topic %s: %w", name, err)
	}
	topic, err := ps.Join(name)
	if err != nil {
		return fmt.Errorf("p2p: gossip topic %s: %w", name, err)
	}
	sub, err := topic.Subscribe(pubsub.WithBufferSize(1024))
	if err != nil {
		return fmt.Errorf("p2p: gossip topic %s: %w", name, err)
	}
	m.gossip = &gossip{topic: topic, sub: sub}
	m.spawn(func() {
		for {
			msg, err := sub.Next(m.ctx)
			if err != nil {
				return // the mesh is closing
			}
			if beat, ok := msg.ValidatorData.(Heartbeat); ok && msg.GetFrom() != m.host.ID() {
				m.heartbeat(msg.GetFrom(), beat)
			}
		}
	})
	return nil
}

func (g *gossip) close() {
	g.sub.Cancel()
	g.topic.Close() // fails only when pubsub has ended already
}

// ownBeat is the next heartbeat of this member. m.mu is held.
func (m *Mesh) ownBeat(addrs []string) Heartbeat {
	return m.members.Beat(addrs)
}

// publish sends one heartbeat to everybody.
func (m *Mesh) publish() {
	addrs := m.dialable()
	m.mu.Lock()
	beat := m.ownBeat(addrs)
	m.mu.Unlock()
	if err := m.gossip.topic.Publish(m.ctx, AppendHeartbeat(nil, beat)); err != nil && m.ctx.Err() == nil {
		m.log.Warn("heartbeat not sent", "error", err)
	}
}

// heartbeat takes in what gossip says of a member.
func (m *Mesh) heartbeat(from peer.ID, beat Heartbeat) {
	id := mesh.ID(from.String())
	m.mu.Lock()
	outcome := m.members.Heartbeat(id, beat, m.now())
	m.note()
	m.mu.Unlock()
	if outcome == swim.Unreached {
		m.seek(peer.AddrInfo{ID: from, Addrs: parseAddrs(beat.Addrs)})
	}
}
