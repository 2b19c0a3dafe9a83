"""Where jobs run: in this process, in one worker process per device, under torchrun, or on a Ray cluster."""
