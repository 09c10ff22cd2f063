"""What `acl serve` prints to begin with: an example of a station's file, and a unit of systemd."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

_UNIT = """\
# /etc/systemd/system/acl-{name}.service
[Unit]
Description=Inspection of {name}
Wants=network-online.target time-sync.target
After=network-online.target time-sync.target nvidia-persistenced.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={python} -m acl_runtime.cli serve {station}
ExecReload=kill -HUP $MAINPID
WorkingDirectory={folder}
# Fed only while the judging loop moves and the state of every camera is known.
WatchdogSec=20
TimeoutStartSec=10min
TimeoutStopSec=30
Restart=always
RestartSec=2
# Who may write the data folder, and the bundle for thresholds from the page: useradd --system --groups video,render acl
User=acl
SupplementaryGroups=video render
UMask=0027
# Tokens of the live page, named in its section as viewer_credential and admin_credential:
# LoadCredential=acl-viewer:/etc/acl/viewer.token
# LoadCredential=acl-admin:/etc/acl/admin.token
Nice=-5
OOMScoreAdjust=-500
NoNewPrivileges=yes
# Nothing below /usr, /boot and /etc can be written: keep the data folder elsewhere, such as below /srv.
ProtectSystem=full
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallFilter=@system-service
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def example_text() -> str:
    """A commented station's file that runs as it is, beside the folder of `make demo`."""
    return (files("acl_runtime.inspection.station") / "example.toml").read_text(encoding="utf-8")


def unit_text(station: Path) -> str:
    """A unit of systemd that runs a station's file with this Python."""
    path = station.resolve()
    return _UNIT.format(
        name=path.stem, python=_quoted(sys.executable), station=_quoted(str(path)), folder=path.parent
    )


def _quoted(path: str) -> str:
    """A path as systemd reads it in a command line."""
    escaped = path.replace("%", "%%").replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if any(char in path for char in ' "\\') else escaped
