"""What are people called? Common first names and surnames, plain ASCII, each once, none both."""

_FIRST_NAMES = """
    Ada Adam Agnes Alan Alice Amir Amy Andrew Anna Arthur Ben Bella Boris Brian Bruno Cara Carl
    Carmen Cecil Chloe Clara Colin Dana Daniel Dara David Diana Dora Edgar Edith Elena Elias Ella
    Emil Emma Eric Esther Eva Felix Fiona Flora Frank Fred George Gina Gloria Grace Greta Hana Harry
    Hazel Helen Henry Hugo Ida Igor Ines Irene Iris Isaac Ivan Jack James Jane Jasper Joan John
    Jonas Julia Karen Karl Kate Kenji Lara Laura Leo Leila Lena Lewis Lily Linda Lucas Lucy Luis
    Marcus Maria Mark Martin Mary Maya Mia Milo Mina Nadia Nathan Nina Noah Nora Oliver Olga Omar
    Oscar Owen Paul Paula Peter Petra Philip Priya Quentin Rachel Ralph Rita Robert Rosa Ruth Sam
    Sara Simon Sofia Stella Susan Tara Theo Thomas Tina Tobias Uma Vera Victor Walter Wendy Yara Zoe
"""

_SURNAMES = """
    Abbott Adler Archer Atkins Bailey Baker Barnes Barton Becker Bell Bennett Berg Bishop Blake
    Bowen Brooks Burke Burton Butler Carey Carter Chandler Clark Cole Cooper Crane Cross Dalton
    Dawson Dixon Doyle Drake Dunn Ellis Evans Falk Farmer Field Finch Fisher Fletcher Ford Foster
    Fowler Fox Franklin Fuller Garcia Gardner Gibson Gill Goodman Grant Graves Green Griffin Hale
    Hansen Harper Hart Hayes Hicks Hill Holmes Hooper Howard Hughes Hunter Irving Jansen Jensen
    Jordan Keller Kelly Kerr Khan King Knight Kumar Lambert Larsen Lawson Lee Lindgren Logan Long
    Lopez Lowe Marsh Mason Mercer Miller Moore Morgan Morris Murphy Nash Newton Nolan Norris Novak
    Olsen Palmer Parker Patel Payne Pearson Perez Porter Potter Price Quinn Ramsey Reed Reyes
    Roberts Rossi Rowe Russo Sato Shaw Silva Singh Slater Stone Sutton Tanaka Taylor Turner Vance
    Walker Walsh Ward Watson Weaver Webb West Wood York Young
"""

FIRST_NAMES = tuple(_FIRST_NAMES.split())
SURNAMES = tuple(_SURNAMES.split())
