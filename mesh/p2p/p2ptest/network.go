// Package p2ptest puts mesh/p2p on a network in memory, for tests in virtual time: the real
// TLS, yamux, identify and gossip run over the shaped pipes of mesh/sim, with its faults.
//
// # What stops virtual time
//
// A goroutine that waits for a mutex does not count as waiting, so no mutex may be held
// across a wait: an end that is closed here fails its Read and Write at once, because
// libp2p closes connections with locks held. Keep-alives go on for ever, so synctest does
// not see a deadlock, and the run has no end: give every test a deadline in virtual time. For the same reason a machine is stopped by cutting its links, not by [sim.Net.Stop]
// or [sim.Net.Pause]: libp2p waits with locks held until a write that waits is over.
package p2ptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"loco/mesh"
	"loco/mesh/sim"
)

// Window is the Options.Buffer that a connection needs to fill a long, fat link.
const Window = 4 << 20

// Network is the network as one machine's process sees it. Each peer of the simulated mesh
// is a machine with an address of its own, and each of its streams a TCP connection.
type Network struct {
	peer  *sim.Peer
	index int
}

// On returns the network of the process that runs on peer index of net now.
func On(net *sim.Net, index int) *Network { return &Network{net.Peer(index), index} }

// port is what every machine listens on.
const port = 4001

// IP is the address of machine i, a public one: libp2p treats others as not worth telling.
func IP(i int) net.IP { return net.IPv4(1, 0, byte(i/250), byte(i%250+1)).To4() }

// Listen is the multiaddr that machine i listens on.
func Listen(i int) string { return fmt.Sprintf("/ip4/%v/tcp/%d", IP(i), port) }

// machine is the number of the machine that has an address.
func machine(ip net.IP) (int, error) {
	b := ip.To4()
	if b == nil || b[0] != 1 || b[1] != 0 || b[3] == 0 {
		return 0, fmt.Errorf("p2ptest: %v is no machine of this network", ip)
	}
	return int(b[2])*250 + int(b[3]) - 1, nil
}

// protocol is what the streams of connections to a port are opened for.
func protocol(port int) string { return fmt.Sprintf("/tcp/%d", port) }

// DialContext connects to an address as a net.Dialer does.
func (n *Network) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	to, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	i, err := machine(to.IP)
	if err != nil {
		return nil, err
	}
	s, err := n.peer.Open(ctx, sim.ID(i), protocol(to.Port))
	if errors.Is(err, sim.ErrRefused) {
		err = &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	if err != nil {
		return nil, err
	}
	return &conn{stream: s.(stream), local: &net.TCPAddr{IP: IP(n.index), Port: port + 1}, remote: to}, nil
}

// stream is what a connection needs of one.
type stream interface {
	mesh.Stream
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// conn is a stream as a TCP connection.
type conn struct {
	stream
	local, remote *net.TCPAddr
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.stream.Read(b)
	return n, closed(err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.stream.Write(b)
	return n, closed(err)
}

// closed is the error of a connection that is closed at this end as net has it.
func closed(err error) error {
	if errors.Is(err, io.ErrClosedPipe) {
		return net.ErrClosed
	}
	return err
}

// listener takes in what peers open to a port.
type listener struct {
	network *Network
	addr    *net.TCPAddr
	conns   chan net.Conn
	once    sync.Once
	done    chan struct{}
}

func (n *Network) listen(addr *net.TCPAddr) *listener {
	l := &listener{network: n, addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	n.peer.Handle(protocol(addr.Port), func(from mesh.ID, s mesh.Stream) {
		var i int
		if _, err := fmt.Sscanf(string(from), "peer-%d", &i); err != nil {
			_ = s.Reset()
			return
		}
		select {
		case l.conns <- &conn{stream: s.(stream), local: addr, remote: &net.TCPAddr{IP: IP(i), Port: port + 1}}:
		case <-l.done:
			_ = s.Reset()
		}
	})
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.network.peer.Handle(protocol(l.addr.Port), nil)
		close(l.done)
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }
