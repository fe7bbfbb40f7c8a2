package turn

import (
	"sync"
	"time"

	"github.com/mailturn/mailturn/endpoint/turn/portfile"
	"github.com/mailturn/mailturn/turnsrv/stun"
)

// portUses passes the uses of ports to the file. While another process still serves, and writes its own file, it keeps them.
type portUses struct {
	mu   sync.Mutex // guards what follows
	held bool
	kept []portUse
	file *portfile.File
}

type portUse struct {
	family stun.Family
	port   uint16
	used   bool
}

// use implements relay.Config.OnUse.
func (u *portUses) use(family stun.Family, port uint16, used bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.held {
		u.kept = append(u.kept, portUse{family, port, used})
		return
	}
	u.file.Use(family, port, used)
}

// pass passes what was kept, and what comes, to file.
func (u *portUses) pass(file *portfile.File) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, use := range u.kept {
		file.Use(use.family, use.port, use.used)
	}
	u.held, u.kept, u.file = false, nil, file
}

// followPorts replaces the file of the process whose calls the endpoint has taken over. The ports of the processes before that one rest
// as they did.
func (e *Endpoint) followPorts(now time.Time) {
	if e.config.StateDir == "" {
		e.uses.pass(nil)
		return
	}
	ports, _, err := portfile.Open(e.config.portFile(), now, e.logger)
	if err != nil {
		e.logger.Warn("relayed ports are not recorded: after a crash, they may be used again too soon", "err", err)
	}
	e.ports = ports
	e.uses.pass(ports)
	e.forgetPorts = time.AfterFunc(e.config.MaxLifetime.V, ports.Forget)
}
