"""What every gRPC server and client here shares: serving and draining, errors, deadlines, health."""
