"""Recurrent layers by name, each with what a decoder asks of it beside torch's own: a start, a run, a single step."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

CellName = Literal["lstm", "gru"]
Carried = tuple[Tensor, ...]  # N H each, from one step to the next; the first is what the step gives out


class LstmLayer(nn.LSTM):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, "Long Short-Term Memory"), one layer, one direction."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def start(self, initial: Float[Tensor, "N H"]) -> Carried:
        r"""\(c_0\) = `initial` and \(h_0 = \tanh c_0\)."""
        return torch.tanh(initial), initial

    def run(self, inputs: Float[Tensor, "N T I"], carried: Carried) -> Float[Tensor, "N T H"]:
        """The states after each input."""
        outputs: Tensor = self(inputs, (carried[0].unsqueeze(0), carried[1].unsqueeze(0)))[0]
        return outputs

    def step(self, inputs: Float[Tensor, "N I"], carried: Carried) -> Carried:
        """One step: not the fused layer, which would prepare itself anew for each number of rows that are left."""
        return torch.lstm_cell(inputs, carried, *self.all_weights[0])


class GruLayer(nn.GRU):
    """A gated recurrent unit (Cho et al. 2014, "Learning Phrase Representations"), one layer, one direction."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def start(self, initial: Float[Tensor, "N H"]) -> Carried:
        r"""\(h_0 = \tanh\) `initial`."""
        return (torch.tanh(initial),)

    def run(self, inputs: Float[Tensor, "N T I"], carried: Carried) -> Float[Tensor, "N T H"]:
        """The states after each input."""
        outputs: Tensor = self(inputs, carried[0].unsqueeze(0))[0]
        return outputs

    def step(self, inputs: Float[Tensor, "N I"], carried: Carried) -> Carried:
        """One step, as the LSTM's."""
        return (torch.gru_cell(inputs, carried[0], *self.all_weights[0]),)


Layer = LstmLayer | GruLayer
LAYERS: dict[CellName, type[LstmLayer] | type[GruLayer]] = {"lstm": LstmLayer, "gru": GruLayer}
