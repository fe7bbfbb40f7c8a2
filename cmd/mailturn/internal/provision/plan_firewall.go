package provision

import (
	"fmt"
	"strings"
)

// planFirewall opens the ports if the firewall is ufw. Otherwise it adds a note about which ports to open.
func (p *planner) planFirewall() {
	if p.Firewall == nil {
		return
	}
	ports := []string{fmt.Sprintf("%d/udp", p.Ports.TURN), fmt.Sprintf("%d/tcp", p.Ports.TURN)}
	if p.encrypted() {
		ports = append(ports, fmt.Sprintf("%d/udp", p.Ports.TLS), fmt.Sprintf("%d/tcp", p.Ports.TLS))
	}
	ports = append(ports, strings.Replace(p.Ports.Relayed, "-", ":", 1)+"/udp")
	if p.cert == nil && p.encrypted() {
		ports = append(ports, "80/tcp") // for the authority
	}
	if p.Firewall.Name != "ufw" {
		p.note(fmt.Sprintf("%s filters incoming packets. Allow %s; \"mailturn export nftables --config %s\" prints rules.",
			p.Firewall.Name, strings.ReplaceAll(strings.Join(ports, ", "), ":", "-"), ConfigFile))
		return
	}
	step := Step{Title: "ufw allows the relay's ports"}
	for _, port := range ports {
		if strings.Contains(p.Firewall.Rules, "allow "+port) {
			continue
		}
		step.Do = append(step.Do, run("ufw", "allow", port, "comment", "mailturn").undoneBy("ufw", "delete", "allow", port))
	}
	if len(step.Do) > 0 {
		p.Steps = append([]Step{step}, p.Steps...) // an authority has to come through before mailturn serves IMAP
	}
}
