"""The `generative` clause composed on the client, for clusters without the plugin."""
