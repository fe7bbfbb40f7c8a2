// Package dist holds the files that systemd gets, for programs that install or print them.
package dist

import "embed"

// Chatmail holds the drop-ins for a chatmail relay: chatmail/UNIT.d/NAME.conf belongs to /etc/systemd/system/UNIT.d/NAME.conf.
//
//go:embed chatmail
var Chatmail embed.FS
