"""The web console: data, training, jobs, chat and models in a browser, served by the gateway."""

from corral.gateway.console.mounting import mount_console as mount_console
