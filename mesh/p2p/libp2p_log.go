package p2p

import (
	"context"
	"log/slog"
	"sync"

	"github.com/libp2p/go-libp2p/gologshim"
)

// quietLibp2p sends libp2p's own log, which otherwise goes to standard error, to
// slog's default logger as debug messages: it calls a connection refused or a
// listener closed an error, and what matters of it comes back to this package's
// callers anyway. libp2p has one log for a process, so this is done once.
var quietLibp2p = sync.OnceFunc(func() { gologshim.SetDefaultHandler(debugHandler{}) })

type debugHandler struct{ attrs []slog.Attr }

func (h debugHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && slog.Default().Enabled(ctx, slog.LevelDebug)
}

func (h debugHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return slog.Default().Handler().WithAttrs(h.attrs).Handle(ctx, r)
}

func (h debugHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return debugHandler{append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h debugHandler) WithGroup(string) slog.Handler { return h }
