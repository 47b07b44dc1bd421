package gate

import (
	"context"
	"log/slog"
	"runtime"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/buildinfo"
)

// logStart logs what starts: the build, and the configuration by its hash and its counts.
func (g *Gate) logStart(ctx context.Context) {
	info := buildinfo.Read()
	build := []slog.Attr{slog.String("version", info.Version), slog.String("revision", info.Revision), slog.String("go_version", runtime.Version())}
	g.log.LogAttrs(ctx, slog.LevelInfo, "starting", append(build, g.configAttributes(g.current.Load().cfg)...)...)
}

// configAttributes returns the log attributes of cfg, which the gate has read last. config_hash is
// tallygate_config_hash in hexadecimal.
func (g *Gate) configAttributes(cfg *config.Config) []slog.Attr {
	applications := 0
	for i := range cfg.Partners.List {
		applications += len(cfg.Partners.List[i].Applications)
	}
	return []slog.Attr{
		slog.String("file", g.file), slog.String("config_hash", g.reloads.seen[g.file].Digest.String()),
		slog.Int("partners", len(cfg.Partners.List)), slog.Int("applications", applications), slog.Int("apis", len(cfg.APIs)),
		slog.Int("authorization_servers", len(cfg.AuthorizationServers)),
	}
}
